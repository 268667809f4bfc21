//! The metric families of one page and their text encoding (OpenMetrics 1.0.0).

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// Maximum number of ports, of VNIs and of VTEPs on a page; the number of others is itself a
/// metric.
pub const MAX_ROWS: usize = 5000;

/// The end of a page (OpenMetrics 1.0.0 section 5).
pub(super) const END: &str = "# EOF\n";

/// The labels of one sample.
pub type Labels = Vec<(&'static str, String)>;

/// The samples of one metric family.
#[derive(Debug)]
enum Samples {
    Counter(Vec<(Labels, u64)>),
    Gauge(Vec<(Labels, f64)>),
}

#[derive(Debug)]
struct MetricFamily {
    name: String,
    help: &'static str,
    samples: Samples,
}

/// The metric families of a page, in order.
#[derive(Debug, Default)]
pub struct PageBuilder(Vec<MetricFamily>);

impl PageBuilder {
    /// Adds a counter; `_total` is appended to its name.
    pub fn counter(
        &mut self,
        name: impl Into<String>,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        let samples = Samples::Counter(samples.into_iter().collect());
        self.0.push(MetricFamily {
            name: name.into(),
            help,
            samples,
        });
    }

    /// Adds a gauge.
    pub fn gauge(
        &mut self,
        name: impl Into<String>,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        let samples = Samples::Gauge(samples.into_iter().collect());
        self.0.push(MetricFamily {
            name: name.into(),
            help,
            samples,
        });
    }

    /// Encodes the families, without the end of the page.
    #[must_use]
    pub fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // Writing to a string cannot fail, and the collector has no other source of errors.
        if let Err(error) = encode_registry(&mut text, &registry) {
            tracing::error!(%error, "metrics: the page is truncated");
        }
        text
    }
}

impl Collector for PageBuilder {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for MetricFamily {
            name,
            help,
            samples,
        } in &self.0
        {
            match samples {
                Samples::Counter(samples) => {
                    let mut metric =
                        encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
                    for (labels, value) in samples {
                        let mut one = metric.encode_family(labels)?;
                        one.encode_counter::<NoLabelSet, u64, f64>(value, None)?;
                    }
                }
                Samples::Gauge(samples) => {
                    let mut metric =
                        encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                    for (labels, value) in samples {
                        // A sample without labels is encoded without braces.
                        if labels.is_empty() {
                            metric.encode_gauge(value)?;
                        } else {
                            metric.encode_family(labels)?.encode_gauge(value)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_open_metrics() {
        let mut page = PageBuilder::default();
        let label = |value: &str| vec![("port", value.to_owned())];
        page.counter(
            "vtepd_port_rx_frames",
            "Frames",
            [(label("vnet1"), 7), (label("a\"b"), 8)],
        );
        page.gauge("vtepd_up", "Up", [(Vec::new(), 1.5)]);
        let wanted = "\
# HELP vtepd_port_rx_frames Frames
# TYPE vtepd_port_rx_frames counter
vtepd_port_rx_frames_total{port=\"vnet1\"} 7
vtepd_port_rx_frames_total{port=\"a\\\"b\"} 8
# HELP vtepd_up Up
# TYPE vtepd_up gauge
vtepd_up 1.5
";
        assert_eq!(page.text(), wanted);
    }
}
