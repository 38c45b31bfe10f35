//! Looking at VMs: what they use and who listens, also when something does not answer.

use super::fault::Fault;
use super::world::World;
use super::{daemon, listed, run, wish};
use crate::report::Kind;
use crate::vm::Doom;
use crate::wire::rpc::{CreateVm, Page, VmPage, VmState};

#[test]
fn a_vm_that_runs_tells_of_host_and_guest() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        daemon.vms.create(wish("web"), None).await.expect("created");
        let stats = daemon.vms.stats("web").await.expect("told");
        let roles: Vec<_> = stats.host.processes.iter().map(|one| one.role.as_str()).collect();
        assert_eq!(roles, ["network_keeper", "uplink", "vsock_device", "monitor"]);
        assert_eq!((stats.host.cpu_ms, stats.host.age_ms), (2000, Some(1000)));
        assert_eq!(stats.host.resident_bytes, 8 << 20);
        assert_eq!(stats.host.proportional_bytes, Some(4 << 20));
        assert_eq!((stats.host.work_disk_bytes, stats.host.root_disk_bytes), (4096, 8192));
        assert_eq!(stats.guest.expect("it runs").memory_bytes, 256 << 20);
        assert_eq!(daemon.vms.listening("web").await.expect("told").sockets[0].port, 8080);
        let touched = daemon.vms.show("web").expect("there").last_touched_at;
        assert!(touched <= stats.at, "looking is no use");
    });
}

#[test]
fn a_vm_at_rest_takes_room_and_nothing_else() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let made = CreateVm { start: Some(false), ..wish("web") };
        daemon.vms.create(made, None).await.expect("created");
        let stats = daemon.vms.stats("web").await.expect("told");
        assert_eq!((stats.state, stats.host.age_ms), (VmState::Created, None));
        assert!(stats.guest.is_none() && stats.guest_error.is_none());
        assert!(stats.host.processes.is_empty());
        assert_eq!(daemon.vms.listening("web").await.expect_err("it rests").kind, Kind::Conflict);
        assert_eq!(daemon.vms.stats("none").await.expect_err("none").kind, Kind::NotFound);
    });
}

#[test]
fn a_guest_that_does_not_answer_hides_nothing_of_the_host() {
    let at = run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        daemon.vms.create(wish("web"), None).await.expect("created");
        daemon.vms.stats("web").await.expect("told");
        daemon.faults.calls().iter().position(|call| *call == "guest.stats").expect("asked")
    });
    for fault in [Fault::Error, Fault::Hang] {
        run(async {
            let world = World::default();
            let daemon = daemon(&world, Some((at, fault)));
            daemon.vms.create(wish("web"), None).await.expect("created");
            let stats = daemon.vms.stats("web").await.expect("told");
            assert!(stats.guest.is_none() && stats.guest_error.is_some(), "{stats:?}");
            assert_eq!(stats.host.processes.len(), 4);
        });
    }
}

#[test]
fn a_vm_is_found_by_name_by_id_and_by_a_prefix_that_is_its_alone() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let vms = &daemon.vms;
        let rests = |name: &str| CreateVm { start: Some(false), ..wish(name) };
        // More than there are hexadecimal digits: two of them begin alike.
        for number in 0..17 {
            vms.create(rests(&format!("vm-{number}")), None).await.expect("made");
        }
        let mut ids: Vec<_> = listed(vms).into_iter().map(|vm| vm.id).collect();
        ids.sort();
        let named_like_an_id = ids[0].to_string();
        vms.create(rests(&named_like_an_id), None).await.expect("made");
        let found = vms.show(&named_like_an_id).expect("there");
        assert_eq!(found.name.as_str(), named_like_an_id, "a name wins over an id");
        vms.delete(&named_like_an_id, Doom::WHATEVER).await.expect("deleted");
        let found = vms.show(&named_like_an_id).expect("there");
        assert_eq!(found.id, ids[0], "the name is free, the id is not");
        let alike = ids.windows(2).find(|two| two[0].as_str()[..1] == two[1].as_str()[..1]);
        let alike = alike.expect("seventeen of sixteen");
        let digit = &alike[0].as_str()[..1];
        let error = vms.show(digit).expect_err("ambiguous");
        assert_eq!(error.kind, Kind::Conflict);
        assert!(alike.iter().all(|id| error.message.contains(id.as_str())), "{error}");
        for id in &ids {
            assert_eq!(vms.show(&id.as_str()[..11]).expect("there").id, *id);
        }
        for unknown in ["", "vm-", "vm-17", "\u{e4}", "zz"] {
            assert_eq!(vms.show(unknown).expect_err("none").kind, Kind::NotFound, "{unknown}");
        }
    });
}

#[test]
fn pages_have_every_vm_once_whatever_their_length() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let vms = &daemon.vms;
        for number in 0..7 {
            let made = CreateVm { start: Some(false), ..wish(&format!("vm-{number}")) };
            vms.create(made, None).await.expect("made");
        }
        let all: Vec<_> = listed(vms).into_iter().map(|vm| vm.name).collect();
        for limit in 1..=8 {
            let (mut names, mut cursor) = (Vec::new(), None);
            loop {
                let page = Page { limit: Some(limit), cursor };
                let page = serde_json::to_string(&vms.list(&page).expect("a page"));
                let page: VmPage = serde_json::from_str(&page.expect("JSON")).expect("a page");
                assert!(page.vms.len() <= limit as usize);
                names.extend(page.vms.into_iter().map(|vm| vm.name));
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(names, all, "{limit} on a page");
        }
    });
}

#[test]
fn a_name_wins_over_an_id_and_a_beginning_must_be_of_one_id() {
    run(async {
        let daemon = daemon(&World::default(), None);
        let make = async |name: &str| {
            let wanted = CreateVm { start: Some(false), ..wish(name) };
            daemon.vms.create(wanted, None).await.expect("created");
            daemon.vms.show(name).expect("there").id
        };
        let web = make("web").await;
        let found = |wanted: &str| daemon.vms.show(wanted).map(|vm| vm.name.to_string());
        for wanted in ["web", web.as_str(), &web.as_str()[..1]] {
            assert_eq!(found(wanted).expect("found"), "web");
        }
        for wanted in ["nobody", ""] {
            assert_eq!(found(wanted).expect_err("nobody").kind, Kind::NotFound);
        }
        // Sixteen more, so that two ids begin with one digit.
        for number in 0..16 {
            make(&format!("more-{number}")).await;
        }
        let digits = "0123456789abcdef".chars().map(String::from);
        let found_by_digit: Vec<_> = digits.map(|digit| found(&digit)).collect();
        let error = found_by_digit.into_iter().filter_map(Result::err);
        let error = error.into_iter().find(|error| error.kind == Kind::Conflict).expect("two are");
        assert!(error.message.contains(" could be "), "{}", error.message);
        make(web.as_str()).await;
        assert_eq!(found(web.as_str()).expect("found"), web.as_str(), "its name, and another's id");
    });
}
