//! vtep-bench: measures what the daemon runs, and says whether it is fast enough.
//!
//! ```text
//! run       rows -> row -> report          rows use the functions of vtep_dataplane, or a lab with real links
//! generate  traffic::template -> AF_XDP
//! sink      AF_XDP -> traffic::sink
//! ```

mod cli;
mod clock;
mod lab;
mod machine;
mod report;
mod row;
mod rows;
mod traffic;

use clap::Parser;
use cli::{Cli, Command};
use report::{Broken, Run};
use row::{Effort, Failure};
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(arguments) => run(&arguments),
        Command::Rows => {
            for row in rows::ALL {
                println!("{:<14} {:<14} {:<10} {}", row.name, row.unit, row.bar.to_string(), row.measures);
            }
            Ok(true)
        }
        Command::Generate(_) | Command::Sink(_) => Err(Failure::new("wait")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("vtep-bench: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Measures the rows; true when all of them reached their bars.
fn run(arguments: &cli::Run) -> Result<bool, Failure> {
    let rows = rows::chosen(&arguments.rows).map_err(|unknown| {
        let names: Vec<_> = rows::ALL.iter().map(|row| row.name).collect();
        Failure::new(format!("{unknown:?} is no row; the rows are {}", names.join(", ")))
    })?;
    lab::net::sweep();
    let effort = if arguments.quick { Effort::Quick } else { Effort::Full };
    let mut run = Run { machine: machine::Machine::look(), effort, rows: Vec::new(), broken: Vec::new() };
    println!("{}", run.machine);
    println!("{}", report::heading());
    for row in rows {
        match row.run(effort) {
            Ok(outcome) => {
                println!("{}", report::line(&outcome));
                run.rows.push(outcome);
            }
            Err(why) => {
                println!("{:<14} not measured: {why}", row.name);
                run.broken.push(Broken { name: row.name, error: why.to_string() });
            }
        }
    }
    if let Some(path) = &arguments.json {
        run.write_json(path)?;
    }
    Ok(run.passed())
}
