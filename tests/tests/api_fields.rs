//! docs/api.md lists the fields of the answers of `show`, no more and no fewer (finding O14).
//!
//! ```text
//! t11, t21 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h2: vtepd ── t12, t22
//! ```

use std::collections::BTreeSet;

use serde_json::{Value, json};
use vtep_tests::fabric::{Fabric, vtep4};
use vtep_tests::site::{self, Site};

/// The words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// `text` without what is in brackets of any kind, which describes the word before it.
fn without_brackets(text: &str) -> String {
    let mut depth = 0;
    let outside = |c: &char| {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => return depth == 0,
        }
        false
    };
    text.chars().filter(outside).collect()
}

/// All keys of an answer, of nested objects too.
fn all_keys(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                out.insert(key.clone());
                // Its keys are reasons, not fields.
                if key != "refused" {
                    all_keys(value, out);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| all_keys(item, out)),
        _ => {}
    }
}

#[test]
fn the_documented_fields_are_those_of_the_daemon() {
    let fabric = Fabric::new(1600);
    let sites = [Site::vtepd(&fabric, 1, &[2]), Site::vtepd(&fabric, 2, &[1])];
    site::expect_full(&sites);
    let vtepd = sites[0].ctl();
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api.md"));
    let docs = docs.expect("docs/api.md is readable");
    let defined = |name: &str| {
        let start = docs
            .find(&format!("\n{name} is "))
            .expect("defined below the table");
        let text = &docs[start..];
        let text = &text[..text.find("\n\n").unwrap_or(text.len())];
        // Its first sentence.
        text.split(". ").next().unwrap_or_default().to_owned()
    };
    let (summary, traffic) = (defined("SUMMARY"), defined("TRAFFIC"));
    let mut wrong = Vec::new();
    for line in docs.lines().filter(|line| line.starts_with("| `show.")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let method = cells[1].trim_matches('`');
        let described = cells[2]
            .replace("SUMMARY", &summary)
            .replace("TRAFFIC", &traffic);
        let params = match method {
            "show.bgp.neighbor" => json!({"neighbor": vtep4(2)}),
            _ => json!({}),
        };
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = vtepd.request(&request.to_string());
        let result = &answer["result"];
        assert!(result.is_object(), "{method}: {answer}");
        let value = result.get("rows").unwrap_or(result);
        let first = value.get(0).unwrap_or(value);
        // Without a drop or a segment there is no row to compare with.
        let Some(fields) = first.as_object() else {
            assert!(
                ["show.drops", "show.bgp.segments"].contains(&method),
                "{method}: no row"
            );
            continue;
        };
        let mut keys = BTreeSet::new();
        all_keys(value, &mut keys);
        let named: BTreeSet<&str> = quoted(&described).collect();
        let missing = keys.iter().filter(|key| !named.contains(key.as_str()));
        wrong.extend(missing.map(|key| format!("{method}: {key} is not documented")));
        let outside = without_brackets(&described);
        // After a full stop or semicolon the cell explains.
        let listed = outside.split(';').next().unwrap_or_default();
        let rows = value.as_array().into_iter().flatten();
        let in_a_row = |key: &str| rows.clone().any(|row| row.get(key).is_some());
        let absent = quoted(listed).filter(|key| !fields.contains_key(*key) && !in_a_row(key));
        wrong.extend(absent.map(|key| format!("{method}: {key} is not in the answer")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
