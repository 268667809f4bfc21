//! The rules of src/tidy/ hold for the whole workspace.

use vtep_tests::netns::{command, must};
use vtep_tests::tidy::{
    self, Source, graph, imports, limits, packages, reasons, shell, size, words,
};

fn none(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

fn source(path: &str, text: &str) -> [Source; 1] {
    [Source {
        path: path.into(),
        lines: text.lines().map(str::to_owned).collect(),
    }]
}

#[test]
fn imports_follow_the_layers() {
    none("imports", &imports::wrong_imports(&tidy::sources()));
    for (path, text) in [
        ("dataplane/src/pipeline/x.rs", "use crate::worker::Worker;"),
        (
            "dataplane/src/wire/x.rs",
            "fn f() { super::super::table::g(); }",
        ),
        (
            "dataplane/src/pipeline/x.rs",
            "use std::{fmt, time::Instant};",
        ),
        ("dataplane/src/addr.rs", "use vtep_control::config::Config;"),
        ("dataplane/src/fresh/x.rs", "use crate::addr::Vni;"),
        ("dataplane/src/fresh.rs", "struct ImportsNothing;"),
        ("control/src/bgp/x.rs", "use mio::net::TcpStream;"),
        ("control/src/rib/x.rs", "fn f() { crate::evpn::g(); }"),
        (
            "control/src/engine/x.rs",
            "use vtep_dataplane::pipeline::Pipeline;",
        ),
    ] {
        assert_eq!(
            imports::wrong_imports(&source(path, text)).len(),
            1,
            "{path}: {text}"
        );
    }
    let right = "// use crate::afxdp;\nuse crate::table::Snapshot;\n#[cfg(test)]\nmod tests { use crate::worker::X; }";
    none(
        "right",
        &imports::wrong_imports(&source("dataplane/src/pipeline/x.rs", right)),
    );
}

/// A violation in a file: the file's path and text.
type Violation = (&'static str, &'static str);

fn one_wrong_import(violations: &[Violation]) {
    for (path, text) in violations {
        let wrong = imports::wrong_imports(&source(path, text));
        assert_eq!(wrong.len(), 1, "{path}: {text}: {wrong:?}");
    }
}

#[test]
fn imports_in_macros_follow_the_layers() {
    const PIPELINE: &str = "dataplane/src/pipeline/x.rs";
    one_wrong_import(&[
        (PIPELINE, "fn f() { assert!(crate::worker::g()); }"),
        (
            PIPELINE,
            "fn f() { vec![(1, [super::super::worker::g()])]; }",
        ),
        (
            PIPELINE,
            "macro_rules! m { ($x:ident) => { $crate::worker::g($x) }; }",
        ),
        (PIPELINE, "m! { use crate::{addr::Vni, worker::Worker}; }"),
        (PIPELINE, "m! { extern crate libc; }"),
        (PIPELINE, "m!(crate::worker::{Worker});"),
        (
            PIPELINE,
            "macro_rules! m { () => { ::std::io::stdout() }; }",
        ),
        (PIPELINE, "#[m(with = crate::worker::g)]\nstruct S;"),
    ]);
    let right = "macro_rules! m { ($x:ident) => { $x::worker::g(crate::addr::f() * 2) }; }";
    none("right", &imports::wrong_imports(&source(PIPELINE, right)));
}

#[test]
fn imports_through_other_names_follow_the_layers() {
    const WIRE: &str = "dataplane/src/wire/x.rs";
    one_wrong_import(&[
        (WIRE, "use crate::*;"),
        (WIRE, "use super::super::*;"),
        (WIRE, "use crate as root;"),
        (WIRE, "use crate::{self as root};"),
        (WIRE, "use std as s;"),
        (WIRE, "extern crate std as s;"),
        (WIRE, "m! { use $crate::*; }"),
        (WIRE, "extern crate libc;"),
        (WIRE, "extern crate vtep_control;"),
        ("control/src/fib/x.rs", "use vtep_dataplane as d;"),
        ("control/src/fib/x.rs", "use vtep_dataplane::*;"),
        (WIRE, "use std::net;\nfn f() { net::UdpSocket::bind(A); }"),
        (WIRE, "use std::{net as n};\nfn f(t: n::TcpStream) {}"),
    ]);
    let files = [
        ("dataplane/src/lib.rs", "pub use worker::Worker as W;"),
        ("dataplane/src/worker/mod.rs", "pub struct Worker;"),
        ("dataplane/src/pipeline/x.rs", "use crate::W;"),
    ];
    let files: Vec<_> = files.into_iter().flat_map(|(p, t)| source(p, t)).collect();
    assert_eq!(
        imports::wrong_imports(&files),
        ["dataplane/src/pipeline/x.rs:1: crate::worker::Worker: pipeline is not above worker"]
    );
}

#[test]
fn pure_code_has_no_io_clock_thread_or_log() {
    for word in [
        "libc::read",
        "rustix::io",
        "std::io::Write",
        "std::net::TcpListener",
        "std::net::TcpStream",
        "std::net::UdpSocket",
        "std::os::unix::net::UnixStream",
        "std::process::Command",
        "std::thread",
        "std::time",
        "std::time::SystemTime",
        "std::net::*",
        "tracing::info",
    ] {
        for folder in [
            "dataplane/src/pipeline",
            "dataplane/src/wire",
            "control/src/bgp",
            "control/src/rib",
            "control/src/evpn",
        ] {
            let wrong =
                imports::wrong_imports(&source(&format!("{folder}/x.rs"), &format!("use {word};")));
            assert_eq!(wrong.len(), 1, "{folder}: {word}: {wrong:?}");
        }
    }
    one_wrong_import(&[
        (
            "control/src/rib/x.rs",
            "use std::time::Instant as I;\nfn f() { I::now(); }",
        ),
        ("control/src/evpn/x.rs", "use std::time::*;"),
        ("control/src/bgp/x.rs", "fn f() { tracing::info!(); }"),
    ]);
    none(
        "right",
        &imports::wrong_imports(&source(
            "control/src/bgp/x.rs",
            "use std::net::{IpAddr, Ipv4Addr};\nuse std::time::{Duration, Instant};",
        )),
    );
}

#[test]
fn only_code_for_tests_is_exempt() {
    let text = |cfg: &str| format!("#[cfg({cfg})]\nmod x {{ use crate::worker::X; }}");
    for (cfg, wrong) in [
        ("test", 0),
        ("loom", 0),
        ("all(test, not(miri))", 0),
        ("any(loom, test)", 0),
        ("not(test)", 1),
        ("not(all(loom, unix))", 1),
        ("feature = \"latest\"", 1),
        ("latest", 1),
        ("all(unix, not(loom))", 1),
    ] {
        let found = imports::wrong_imports(&source("dataplane/src/pipeline/x.rs", &text(cfg)));
        assert_eq!(found.len(), wrong, "{cfg}");
        let lines = source("a.rs", &text(cfg))[0].code().len();
        assert_eq!(lines, wrong * 2, "{cfg}");
    }
}

#[test]
fn the_layers_are_those_of_the_architecture_page() {
    let page = "# A\n\n## Dependency rules\n\n    control  --->  dataplane\n    dataplane   a, b < c\n    \
                control     d < e\n                < f\n\nText < text.\n\n## Modules\n\n    control x < y\n";
    let layers = imports::layers(page);
    let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        layers,
        [
            ("dataplane".to_owned(), vec![names("a b"), names("c")]),
            (
                "control".to_owned(),
                vec![names("d"), names("e"), names("f")]
            ),
        ]
    );
    one_wrong_import(&[("dataplane/src/mem.rs", "use crate::addr::Vni;")]);
}

#[test]
fn imports_form_no_circle() {
    none("circles", &graph::circles(&tidy::sources()));
    let files = |texts: [(&str, &str); 3]| {
        texts
            .map(|(path, text)| source(path, text))
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
    };
    let circle = files([
        ("control/src/rib/a.rs", "use super::b::B;"),
        ("control/src/rib/b.rs", "fn f() { crate::fib::c::g(); }"),
        ("control/src/fib/c.rs", "use crate::rib::a;"),
    ]);
    assert_eq!(
        graph::circles(&circle),
        ["control/src/rib/a.rs, control/src/rib/b.rs, control/src/fib/c.rs"]
    );
    let parent = files([
        ("control/src/rib/mod.rs", "use self::a::A;"),
        ("control/src/rib/a.rs", "use super::Rib; use super::b::B;"),
        ("control/src/rib/b.rs", "use crate::rib::Rib;"),
    ]);
    none("parent and child", &graph::circles(&parent));
}

#[test]
fn circles_through_re_exports_and_folders_are_found() {
    let circles = |files: &[Violation]| {
        let files: Vec<_> = files.iter().flat_map(|(p, t)| source(p, t)).collect();
        graph::circles(&files)
    };
    let (a, b) = (
        ("control/src/rib/a.rs", "use super::B;"),
        ("control/src/rib/b.rs", "use super::A;"),
    );
    let parent = |text| ("control/src/rib/mod.rs", text);
    let found = ["control/src/rib/a.rs, control/src/rib/b.rs"];
    for text in [
        "pub use self::a::A; pub use self::b::B;",
        "mod a; mod b; pub use a::A; use b::B;",
        "pub use self::{a::A, b::{B, C}};",
        "pub use self::{a::X as A, b::Y as B};",
        "use self::a::X; pub use self::X as A; pub use self::b::{self as other, B};",
    ] {
        assert_eq!(circles(&[parent(text), a, b]), found, "{text}");
    }
    let globs = [
        parent("pub use self::a::*; pub use self::b::*;"),
        ("control/src/rib/a.rs", "use super::B; pub struct A;"),
        ("control/src/rib/b.rs", "use super::*; pub struct B;"),
    ];
    assert_eq!(circles(&globs), found);
    let names = [
        parent("mod a; mod b;"),
        (a.0, "use crate::rib; fn f() { rib::b::g(); }"),
        (b.0, "fn f() { assert!(super::a::g()); }"),
    ];
    assert_eq!(circles(&names), found);
    none("one way", &circles(&[parent("pub use self::a::A;"), a, b]));

    let folders = [
        ("bench/src/tables.rs", "use crate::testbed::topology::VNI;"),
        ("bench/src/testbed/topology.rs", "use crate::row::Failure;"),
        ("bench/src/testbed/forwarder.rs", "use crate::tables::PORT;"),
    ];
    assert_eq!(circles(&folders), ["bench/src/tables, bench/src/testbed"]);
}

#[test]
fn imports_are_in_three_groups() {
    none("imports", &imports::import_groups(&tidy::sources()));
    for wrong in [
        "use mio::Poll;\n\nuse std::fmt;",
        "use std::fmt;\nuse mio::Poll;",
        "use std::fmt;\n\nuse std::io;",
    ] {
        assert_eq!(
            imports::import_groups(&source("control/src/x.rs", wrong)).len(),
            1,
            "{wrong}"
        );
    }
    let right = "use std::fmt;\nuse std::io;\n\nuse mio::Poll;\n\nuse crate::bgp;\nuse super::x;";
    none(
        "right",
        &imports::import_groups(&source("control/src/x.rs", right)),
    );
}

#[test]
fn names_and_prose_use_the_terms_of_the_field() {
    none("words", &words::banned(&tidy::sources()));
    none("words", &words::banned(&words::pages()));
    none("words", &words::banned(&words::texts()));
    for wrong in [
        "// A neighbour.",
        "let neighbour_count = 1;",
        "struct NeighbourTable;",
        "// It rings the\n// bells.",
        "// That is how it goes\n// on.",
        "struct MacOutbox;",
        "/// It goes on.",
        "struct Blame;",
        "fn f() { fib.turn_to(1) }",
        "error(\"nobody\")",
    ] {
        assert_eq!(
            words::banned(&source("control/src/x.rs", wrong)).len(),
            1,
            "{wrong}"
        );
    }
    none(
        "right",
        &words::banned(&source(
            "control/src/x.rs",
            "// mushroom, net/core/neighbour.c",
        )),
    );
}

#[test]
fn pages_have_at_most_120_columns() {
    none("lines", &words::long_lines(&words::pages()));
    let long = "x".repeat(121);
    assert_eq!(words::long_lines(&source("a.md", &long)).len(), 1);
    none(
        "code",
        &words::long_lines(&source("a.md", &format!("```\n{long}\n```\n| {long} |"))),
    );
}

#[test]
fn unsafe_code_is_only_where_it_is_allowed() {
    none("misplaced", &size::misplaced_unsafe(&tidy::sources()));
    assert_eq!(
        size::misplaced_unsafe(&source("control/src/x.rs", concat!("un", "safe { f() }"))).len(),
        1
    );
}

#[test]
fn files_and_functions_are_short() {
    none("files", &size::long_files(&tidy::sources()));
    none("functions", &size::long_functions(&tidy::sources()));
    let long = format!("fn f() {{\n{}}}\n", "    g();\n".repeat(69));
    assert_eq!(size::long_functions(&source("a.rs", &long)).len(), 1);
    assert_eq!(
        size::long_files(&source("a.rs", &"x\n".repeat(501))).len(),
        1
    );
}

#[test]
fn scripts_read_pipes_to_their_end() {
    none("pipes", &shell::early_readers(&words::texts()));
    for wrong in ["sort | head -n 10", "ss -l | grep -q .", "x | grep -m1 a"] {
        let text = format!("set -euo pipefail\n{wrong}");
        assert_eq!(
            shell::early_readers(&source("a", &text)).len(),
            1,
            "{wrong}"
        );
    }
    for right in ["sort | sed -n 1p", "grep -q a file", "a || head -n1 file"] {
        let text = format!("set -euo pipefail\n{right}");
        none("pipes", &shell::early_readers(&source("a", &text)));
    }
}

#[test]
fn no_work_is_unfinished() {
    none("unfinished", &size::unfinished(&tidy::sources()));
    assert_eq!(
        size::unfinished(&source("a.rs", concat!("// TO", "DO"))).len(),
        1
    );
}

#[test]
fn each_drop_reason_is_in_the_docs() {
    let page = std::fs::read_to_string(tidy::root().join("docs/counters.md"))
        .expect("docs/counters.md is readable");
    let reasons = reasons::reasons(&tidy::sources());
    assert!(reasons.len() > 25, "{reasons:?}");
    let missing: Vec<String> = reasons
        .into_iter()
        .filter(|r| !page.contains(&format!("`{r}`")))
        .collect();
    none("reasons without a line in docs/counters.md", &missing);
}

/// cargo reads the manifests of the packages of all platforms, also of those that are not built
/// here, and downloads what is not in `CARGO_HOME` yet. `scripts/check` fetches them first
/// (finding F1).
#[test]
fn packages_come_from_crates_io_under_permitted_licenses() {
    let manifest = tidy::root().join("Cargo.toml");
    let words = [
        "cargo",
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--manifest-path",
    ];
    let out = command(
        600,
        &[&words[..], &[manifest.to_str().expect("ASCII")]].concat(),
    );
    let metadata = serde_json::from_str(&must(&out, "cargo metadata")).expect("JSON");
    none("packages", &packages::wrong_packages(&metadata));
    assert!(packages::permitted("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(
        !packages::permitted("GPL-3.0-only")
            && !packages::permitted("")
            && !packages::permitted("MIT AND GPL-3.0-only")
    );
}

#[test]
fn the_architecture_page_names_every_module() {
    let page = std::fs::read_to_string(tidy::root().join("ARCHITECTURE.md")).expect("readable");
    let missing: Vec<String> = imports::names(&tidy::sources())
        .into_iter()
        .filter(|name| !words::contains(&page, name))
        .collect();
    none("modules that ARCHITECTURE.md does not name", &missing);
}

/// Whoever reads docs/limits.md can run the test of each bound.
#[test]
fn each_limit_has_a_test_that_exists() {
    let page = std::fs::read_to_string(tidy::root().join("docs/limits.md")).expect("readable");
    none("limits", &limits::wrong_rows(&page, &tidy::sources()));
    let sources = source("control/src/x.rs", "    fn it_is_bounded() {");
    let row = |test: &str| format!("| frames | a tenant | 7 | | | | {test} |");
    assert!(limits::wrong_rows(&row("`it_is_bounded`"), &sources).is_empty());
    for wrong in ["", "`another`", "tests/x.rs"] {
        assert_eq!(
            limits::wrong_rows(&row(wrong), &sources).len(),
            1,
            "{wrong}"
        );
    }
    assert_eq!(limits::wrong_rows("| a | b | c |", &sources).len(), 1);
}
