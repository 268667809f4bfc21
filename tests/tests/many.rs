//! Many ports with the shortest configuration.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vtep_tests::echo::assert_no_loss;
use vtep_tests::fabric::{Fabric, vtep4};
use vtep_tests::link::Host;
use vtep_tests::topology::IO_KINDS;
use vtep_tests::vtepd::{Config, Vtepd, check};

/// Two hundred ports and the default number of frames: every queue has a socket, `--check` has no
/// objection, and frames pass (finding D16).
#[test]
fn two_hundred_ports_work_with_the_defaults() {
    IO_KINDS.into_iter().for_each(two_hundred_ports_with);
}

fn two_hundred_ports_with(io: &str) {
    let fabric = Fabric::new(1600);
    let hypervisor = fabric.hypervisor(1);
    let hosts = [11, 12].map(|number| Host::new(&hypervisor, number));
    let mut config = Config::new(vtep4(1)).io(io).vni(100, &[]);
    // The hosts come last: they get what is left.
    let batch: String = (0..198)
        .map(|number| {
            format!(
                "link add m{number} type veth peer name n{number}\n\
                 link set m{number} addrgenmode none up\n\
                 link set n{number} addrgenmode none up\n"
            )
        })
        .collect();
    for number in 0..198 {
        config = config.port(&format!("m{number}"), &[]);
    }
    config = config.vni(200, &[]);
    for host in &hosts {
        config = config.port(&host.port, &[host.mac()]);
    }
    let file = std::env::temp_dir().join(format!("links-{}", std::process::id()));
    std::fs::write(&file, batch).expect("the temporary directory can be written");
    hypervisor.ip(&format!("-batch {}", file.display()));
    std::fs::remove_file(&file).expect("it is ours");
    let checked = check(&hypervisor, config.text());
    assert!(checked.status.success(), "{checked:?}");
    // As in most shells; vtepd raises it.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = Some(1024);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).expect("a lower limit");
    let vtepd = Vtepd::start(&hypervisor, &config);
    let status = vtepd.show("status");
    assert_eq!(status["degraded"], serde_json::json!([]), "{status}");
    let ports = vtepd.show("ports");
    let rows = ports["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 201);
    for row in rows {
        assert_eq!(row["state"], "up", "{row}");
        let queues = row["queues"].as_array().map_or(0, Vec::len);
        assert_eq!(queues, 1, "{row}");
    }
    let [a, b] = &hosts;
    assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
    vtepd.stop();
}
