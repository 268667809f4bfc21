//! The clients of the control socket: four that ask for everything, an operator that changes the
//! configuration, and scrapes of the metrics.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vtep_control::api::client::Client;

use super::site::{METRICS, SENDER, Site, local_macs, port_of};
use super::{PATIENCE, Scale};
use crate::row::Failure;

/// The tables, each read page after page, and what is no table.
const TABLES: [&str; 9] = [
    "show.mac",
    "show.bgp.routes",
    "show.neighbors",
    "show.vni",
    "show.flood",
    "show.ports",
    "show.underlay",
    "show.drops",
    "show.workers",
];

/// Rows of a page: the most that the daemon answers with.
const ROWS: usize = 5000;

/// Time limit for one answer: on a busy machine a turn takes ten times as long as its work.
const ANSWER: Duration = Duration::from_secs(300);

/// What was answered.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Answered {
    requests: u64,
    rows: u64,
    pub(super) changes: u64,
}

impl Answered {
    pub(super) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.rows += other.rows;
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            requests,
            rows,
            changes,
        } = self;
        write!(
            f,
            "{requests} requests answered with {rows} rows, {changes} batches of changes applied"
        )
    }
}

/// Waits until the daemon answers.
pub(super) fn wait_ready(site: &Site) -> Result<(), Failure> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Ok(mut client) = Client::connect(&site.socket())
            && client.call("show.status", json!({})).is_ok()
        {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    Err(Failure::new("the daemon does not answer"))
}

/// Waits until the routes of all VNIs are in the table.
pub(super) fn wait_loaded(
    site: &Site,
    scale: Scale,
    limit: Duration,
    failed: impl Fn() -> bool,
) -> Result<(), Failure> {
    let start = Instant::now();
    let mut client = Client::connect(&site.socket()).map_err(Failure::of("a client"))?;
    let mut macs = 0;
    // A few may be missing: the operator deletes and adds VNIs meanwhile.
    let wanted =
        scale.vnis * scale.routes * 9 / 10 + scale.interfaces * scale.vlans * scale.hosts * 9 / 10;
    while start.elapsed() < limit && !failed() {
        let status = client
            .call("show.status", json!({}))
            .map_err(Failure::of("a client"))?;
        macs = status["tables"]["macs"].as_u64().unwrap_or(0) as usize;
        if macs >= wanted {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    Err(Failure::new(format!(
        "{macs} MACs are in the table instead of {wanted}"
    )))
}

/// Asks for all tables with full pages, 16 requests ahead, until `done`.
pub(super) fn ask_for_everything(
    site: &Site,
    place: usize,
    done: &AtomicBool,
) -> Result<Answered, Failure> {
    let failed = |error: std::io::Error| Failure::of("a client")(error);
    let stream = UnixStream::connect(site.socket()).map_err(failed)?;
    stream.set_read_timeout(Some(ANSWER)).map_err(failed)?;
    let mut writing = stream.try_clone().map_err(failed)?;
    let mut reading = BufReader::new(stream);
    let mut after: [Option<String>; TABLES.len()] = Default::default();
    let mut answered = Answered::default();
    let mut next = place;
    while !done.load(Relaxed) {
        let asked: Vec<_> = (0..16)
            .map(|ahead| (next + ahead) % (TABLES.len() + 3))
            .collect();
        next += asked.len();
        let lines: String = asked.iter().map(|what| request(*what, &after)).collect();
        match writing.write_all(lines.as_bytes()) {
            Err(_) if done.load(Relaxed) => return Ok(answered),
            written => written.map_err(failed)?,
        }
        for what in asked {
            let mut line = String::new();
            match reading.read_line(&mut line) {
                // The daemon may have ended in the meantime.
                Ok(0) | Err(_) if done.load(Relaxed) => return Ok(answered),
                Ok(0) => return Err(Failure::new("the daemon closed the connection of a client")),
                Ok(_) => {}
                Err(error) => return Err(failed(error)),
            }
            answered.requests += 1;
            // The whole answer is not parsed: the clients would be slower than the daemon.
            answered.rows += line.matches("},{").count() as u64;
            if let Some(after) = after.get_mut(what) {
                *after = cursor(&line);
            }
        }
    }
    Ok(answered)
}

fn request(what: usize, after: &[Option<String>]) -> String {
    let (method, params) = match TABLES.get(what) {
        Some(table) => {
            let mut params = json!({ "limit": ROWS });
            if let Some(Some(after)) = after.get(what) {
                params["after"] = json!(after);
            }
            (*table, params)
        }
        None => match what - TABLES.len() {
            0 => ("show.status", json!({})),
            1 => ("show.bgp.summary", json!({})),
            _ => (
                "show.bgp.neighbor",
                json!({ "neighbor": SENDER.to_string() }),
            ),
        },
    };
    format!(
        "{}\n",
        json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    )
}

/// The cursor of the next page in an answer.
fn cursor(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("\"next\":\"")?;
    rest.split_once('"').map(|(cursor, _)| cursor.to_owned())
}

/// Deletes and adds VNIs with their port and hosts, until `done`. Returns the number of batches.
pub(super) fn operate(site: &Site, scale: Scale, done: &AtomicBool) -> Result<u64, Failure> {
    let mut client = Client::connect(&site.socket()).map_err(Failure::of("the operator"))?;
    let mut count = 0;
    for vni in (1..=scale.vnis).cycle().step_by(7) {
        if done.load(Relaxed) {
            break;
        }
        // The daemon may have ended in the meantime.
        let mut call = |method: &str, params: Value| match client.call(method, params) {
            Err(_) if done.load(Relaxed) => Ok(()),
            called => called
                .map(drop)
                .map_err(Failure::of(format!("the operator's {method}"))),
        };
        call("vni.del", json!({ "vni": vni }))?;
        call("vni.add", json!({ "vni": vni }))?;
        count += 2;
        if let Some((interface, vlan)) = port_of(scale, vni) {
            let macs = local_macs(vni, scale.hosts);
            let port = json!({"vni": vni, "interface": interface, "vlan": vlan, "macs": macs});
            call("port.add", port)?;
            count += 1;
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(count)
}

/// Reads the metrics twice a second, until `done`.
pub(super) fn scrape(done: &AtomicBool) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::of("a scrape")(error);
    while !done.load(Relaxed) {
        let scraped = TcpStream::connect(METRICS).and_then(|mut stream| {
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
            stream.read_to_end(&mut Vec::new())
        });
        // The daemon may have ended in the meantime.
        if let Err(error) = scraped
            && !done.load(Relaxed)
        {
            return Err(failed(error));
        }
        thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_found_in_answers() {
        let line = r#"{"id":1,"jsonrpc":"2.0","result":{"next":"7/a","rows":[]}}"#;
        assert_eq!(cursor(line).as_deref(), Some("7/a"));
        assert_eq!(cursor(r#"{"result":{"next":null,"rows":[]}}"#), None);
    }
}
