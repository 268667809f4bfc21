//! The program `vtep-bench`.

use std::process::ExitCode;

use clap::Parser;
use vtep_bench::cli::{self, Cli, Command};
use vtep_bench::report::{self, Broken, Run};
use vtep_bench::row::{Effort, Failure};
use vtep_bench::{command, machine, rows, testbed};

fn main() -> ExitCode {
    // As in the daemon.
    vtep_dataplane::mem::mmap_large_blocks();
    let done = match Cli::parse().command {
        Command::Run(arguments) => run(&arguments),
        Command::Rows => {
            for row in rows::ALL {
                println!(
                    "{:<14} {:<14} {:<10} {}",
                    row.name,
                    row.unit,
                    row.bar.to_string(),
                    row.measures
                );
            }
            Ok(true)
        }
        Command::Generate(arguments) => command::generate(&arguments).map(|()| true),
        Command::Sink(arguments) => command::sink(&arguments).map(|()| true),
        Command::Held { hosts } => rows::evpn::memory::held(hosts).map(|bytes| {
            println!("{bytes}");
            true
        }),
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

/// Measures the rows; true if all of them reached their bars.
fn run(arguments: &cli::Run) -> Result<bool, Failure> {
    let rows = rows::chosen(&arguments.rows).map_err(|unknown| {
        let names: Vec<_> = rows::ALL.iter().map(|row| row.name).collect();
        Failure::new(format!(
            "unknown row {unknown:?}: the rows are {}",
            names.join(", ")
        ))
    })?;
    testbed::net::sweep();
    let effort = if arguments.quick {
        Effort::Quick
    } else {
        Effort::Full
    };
    let mut run = Run {
        machine: machine::Machine::look(),
        effort,
        rows: Vec::new(),
        broken: Vec::new(),
    };
    println!("{}", run.machine);
    println!("{}", report::heading());
    let stop = command::stop_flag()?;
    for row in rows {
        match row.run(effort, &stop) {
            Ok(outcome) => {
                println!("{}", report::line(&outcome));
                run.rows.push(outcome);
            }
            Err(why) => {
                println!("{:<14} not measured: {why}", row.name);
                run.broken.push(Broken {
                    name: row.name,
                    error: why.to_string(),
                });
            }
        }
    }
    if let Some(path) = &arguments.json {
        run.write_json(path)?;
    }
    Ok(run.passed())
}
