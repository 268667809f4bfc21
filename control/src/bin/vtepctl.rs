//! vtepctl: shows and changes a running vtepd.

#![forbid(unsafe_code)]

use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;
use vtep_control::cli::{Cli, Failure, Outcome, run};

fn main() -> ExitCode {
    // Wrong usage ends here with status 2.
    let cli = Cli::parse();
    let mut out = BufWriter::new(io::stdout().lock());
    let done = run(&cli, &mut out).and_then(|outcome| Ok(out.flush().map(|()| outcome)?));
    match done {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Different) => ExitCode::FAILURE,
        // A closed pipe, such as after `head`, is not a failure.
        Err(Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            // The status tells of the failure even where stderr can't be written to.
            let _ = writeln!(io::stderr(), "vtepctl: {failure}");
            ExitCode::FAILURE
        }
    }
}
