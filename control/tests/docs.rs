//! The tables of docs/config.md and docs/cli.md agree with the programs (finding O14).

use std::collections::BTreeSet;

use clap::{Command, CommandFactory};
use vtep_control::cli::Cli;
use vtep_control::config::parse;

const CONFIG: &str = include_str!("../../docs/config.md");
const CLI: &str = include_str!("../../docs/cli.md");

/// A configuration with `line` in the table of that heading.
fn with(heading: &str, line: &str) -> String {
    let at = |wanted: &str| if wanted == heading { line } else { "" };
    format!(
        "[vtep]\naddress = \"203.0.113.2\"\nunderlay = [\"eth0\"]\n{}\n[vtep.afxdp]\n{}\n[control]\n{}\n\
         [bgp]\nasn = 65000\n{}\n[[bgp.neighbor]]\naddress = \"203.0.113.9\"\nremote-asn = 65000\n{}\n\
         [[vni]]\nid = 100\n{}\n[[vni.port]]\ninterface = \"a\"\n{}\n",
        at("[vtep]"),
        at("[vtep.afxdp]"),
        at("[control]"),
        at("[bgp]"),
        at("[[bgp.neighbor]]"),
        at("[[vni]]"),
        at("[[vni.port]]"),
    )
}

/// The keys of a table, each with its default as docs/config.md gives it.
fn rows() -> Vec<(String, String, String)> {
    let mut heading = "";
    let mut rows = Vec::new();
    for line in CONFIG.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            heading = title;
        }
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        if line.starts_with("| `") && cells.len() >= 6 {
            let key = cells[1].trim_matches('`');
            rows.push((heading.to_owned(), key.to_owned(), cells[3].to_owned()));
        }
    }
    rows
}

/// The start of a default that is a TOML value.
fn value(default: &str) -> Option<&str> {
    let literal = default.starts_with(['"', '[']) || default.parse::<u64>().is_ok();
    (literal || ["true", "false"].contains(&default)).then_some(default)
}

#[test]
fn the_documented_defaults_are_those_of_the_program() {
    let base = parse("base", &with("", "")).unwrap().config;
    let mut compared = 0;
    for (heading, key, default) in rows() {
        let Some(value) = value(&default) else {
            continue;
        };
        // Its other half is required.
        let line = match key.as_str() {
            "learn-age" | "learn-addresses" | "max-addresses" if heading == "[[vni.port]]" => {
                let both = format!("learn-limit = 7\n{key} = {value}");
                let alone = parse("alone", &with(&heading, "learn-limit = 7")).unwrap();
                let both = parse("both", &with(&heading, &both)).unwrap();
                assert_eq!(both.config, alone.config, "{heading} {key} = {value}");
                continue;
            }
            _ => format!("{key} = {value}"),
        };
        let given = parse("given", &with(&heading, &line));
        let given = given.unwrap_or_else(|error| panic!("{heading} {line}: {error}"));
        assert_eq!(given.config, base, "{heading} {line}");
        compared += 1;
    }
    assert!(compared > 20, "only {compared} defaults were compared");
}

/// The commands without subcommands, each with its words.
fn leaves(command: &Command, path: &str, out: &mut Vec<(String, BTreeSet<String>)>) {
    let subcommands: Vec<_> = command
        .get_subcommands()
        .filter(|c| c.get_name() != "help")
        .collect();
    if subcommands.is_empty() {
        let longs = command.get_arguments().filter_map(clap::Arg::get_long);
        let own = longs.filter(|name| !["help", "version"].contains(name));
        out.push((path.to_owned(), own.map(str::to_owned).collect()));
    }
    for sub in subcommands {
        leaves(sub, format!("{path} {}", sub.get_name()).trim(), out);
    }
}

/// The part about vtepctl.
fn vtepctl() -> &'static str {
    CLI.split_once("\n## vtepctl\n").expect("a section").1
}

/// Whether the first cell of a row names the command: `bgp clear|shutdown ADDR` names two.
fn names(row: &str, command: &str) -> bool {
    let words: Vec<_> = command.split(' ').collect();
    row.split('`').skip(1).step_by(2).any(|usage| {
        let mut usage = usage.split_whitespace();
        words.iter().all(|word| {
            usage
                .next()
                .is_some_and(|found| found.split('|').any(|one| one == *word))
        })
    })
}

#[test]
fn every_command_and_option_is_documented_and_every_documented_one_exists() {
    let mut all = Vec::new();
    let mut cli = Cli::command();
    cli.build();
    leaves(&cli, "", &mut all);
    let rows: Vec<_> = vtepctl()
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let mut wrong = Vec::new();
    let globals = ["socket", "json", "verbose"];
    for (command, options) in &all {
        let Some(row) = rows.iter().find(|row| names(row, command)) else {
            wrong.push(format!("{command}: not documented"));
            continue;
        };
        for option in options
            .iter()
            .filter(|option| !globals.contains(&option.as_str()))
        {
            if !row.contains(&format!("--{option}")) {
                wrong.push(format!("{command}: --{option} is not documented"));
            }
        }
    }
    let known: BTreeSet<_> = all.iter().flat_map(|(_, options)| options).collect();
    for word in rows
        .iter()
        .flat_map(|row| row.split(|c: char| !(c.is_alphanumeric() || c == '-')))
    {
        if let Some(option) = word.strip_prefix("--")
            && !option.is_empty()
            && !known.contains(&option.to_owned())
        {
            wrong.push(format!("--{option}: does not exist"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
