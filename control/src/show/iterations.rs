//! The longest turn of the control thread, in `show status` and the metrics.

use super::metrics::one;
use crate::api::show::LongestIteration;
use crate::engine::EngineView;
use crate::iteration::IterationPart;
use crate::metrics::PageBuilder;

impl EngineView<'_> {
    pub(super) fn longest_turn(&self) -> LongestIteration {
        let times = self.turns.longest();
        let (total, (part, longest)) = (times.total(), times.longest_part());
        LongestIteration {
            seconds: total.wall.as_secs_f64(),
            cpu_seconds: total.cpu.as_secs_f64(),
            part: part.word().to_owned(),
            part_seconds: longest.wall.as_secs_f64(),
        }
    }

    pub(super) fn metrics_of_turns(&self, page: &mut PageBuilder) {
        let times = self.turns.longest();
        let total = times.total();
        page.gauge(
            "vtepd_control_longest_turn_seconds",
            "The longest time that the control thread needed for everything that was due at once",
            [(Vec::new(), total.wall.as_secs_f64())],
        );
        page.gauge(
            "vtepd_control_longest_turn_cpu_seconds",
            "The part of this time in which the thread ran",
            [(Vec::new(), total.cpu.as_secs_f64())],
        );
        let parts = IterationPart::ALL.into_iter().zip(times.parts);
        page.gauge(
            "vtepd_control_longest_turn_part_seconds",
            "What it was spent on",
            parts.map(|(part, spent)| (one("part", part.word()), spent.wall.as_secs_f64())),
        );
    }
}
