//! What the user reads and types: parsing by table, texts by snapshot.

use std::collections::BTreeMap;

use clap::{CommandFactory, Parser};

use super::failure::{Statuses, render, status};
use super::{Arguments, Command, config, doctor, help, list, logs, op, output, show};
use crate::egress::Mode;
use crate::id::{Digest, VmName};
use crate::report::{Kind, Report};
use crate::wire::rpc::{
    Check, CreateVm, NetMode, Operation, OperationEnd, Stage, Verdict, Vm, VmNet, VmState,
    VmWorkspace, WorkspaceMode,
};

const KINDS: [Kind; 8] = [
    Kind::Failed,
    Kind::Invalid,
    Kind::NotFound,
    Kind::Conflict,
    Kind::Unreachable,
    Kind::Refused,
    Kind::TimedOut,
    Kind::Cancelled,
];

pub(super) fn vm(name: &str, id: &str) -> Vm {
    Vm {
        id: id.parse().expect("an id"),
        name: name.parse::<VmName>().expect("a name"),
        state: VmState::Running,
        cause: None,
        stalled: None,
        image: "debian".parse().expect("a name"),
        kernel: Digest::of(b"kernel"),
        vmm: "qemu".to_owned(),
        accel: Some("tcg".to_owned()),
        vcpu: 2,
        memory_mib: 1536,
        disk_bytes: 8 << 30,
        root_disk_bytes: 8 << 30,
        net: VmNet {
            mode: NetMode::User,
            address: Some("10.0.2.15".to_owned()),
            address6: None,
            egress: Some(Mode::Open),
        },
        workspace: None,
        labels: BTreeMap::new(),
        publish: Vec::new(),
        publish_failed: Vec::new(),
        auto_stop_after_s: None,
        restart_needed: Vec::new(),
        created_at: "2026-11-23T12:00:00Z".to_owned(),
        started_at: Some("2026-11-23T12:00:02Z".to_owned()),
        last_touched_at: "2026-11-23T12:30:00Z".to_owned(),
        boot_id: None,
        pid: Some(4711),
        leased: false,
        ssh_host_key: Some("ssh-ed25519 AAAA web".to_owned()),
    }
}

fn two() -> [Vm; 2] {
    let mut stopped = vm("a-longer-name", "abbbbbbbbbbb");
    stopped.state = VmState::Stopped;
    stopped.memory_mib = 512;
    (stopped.net.mode, stopped.net.egress) = (NetMode::None, None);
    stopped.cause = Some("its monitor\nwas \u{1b}[2Jkilled".to_owned());
    stopped.workspace = Some(VmWorkspace {
        guest_path: "/root/project".to_owned(),
        source_path: "/home/u/pro\u{202e}ject".to_owned(),
        base_commit: None,
        mode: WorkspaceMode::Shallow,
    });
    stopped.labels.insert("team".to_owned(), "a".to_owned());
    [vm("web", "aaaaaaaaaaaa"), stopped]
}

fn now() -> jiff::Timestamp {
    "2026-11-23T15:04:05Z".parse().expect("a time")
}

#[test]
fn the_commands_are_sound_and_their_tree_is_known() {
    Arguments::command().debug_assert();
    let mut root = Arguments::command();
    root.build();
    insta::assert_snapshot!(help::tree(&root));
}

#[test]
fn run_becomes_one_request() {
    let rule = |text: &str| text.parse().expect("a rule");
    let cases: [(&[&str], CreateVm); 5] = [
        (&[], CreateVm { start: Some(true), ..CreateVm::default() }),
        (
            &["--name", "web", "--image", "debian", "--vcpu", "2", "--memory", "2G"],
            CreateVm {
                name: Some("web".to_owned()),
                image: Some("debian".to_owned()),
                vcpu: Some(2),
                memory_mib: Some(2048),
                start: Some(true),
                ..CreateVm::default()
            },
        ),
        (
            &["--disk", "1G", "--root-disk", "512M", "--net", "none", "--rm", "--env", "A=1=2"],
            CreateVm {
                disk_bytes: Some(1 << 30),
                root_disk_bytes: Some(512 << 20),
                net: Some(NetMode::None),
                env: BTreeMap::from([("A".to_owned(), "1=2".to_owned())]),
                start: Some(true),
                lease: true,
                ..CreateVm::default()
            },
        ),
        // What that means alone is the daemon's to say, as for all its clients.
        (
            &["--allow", "*.Example.org:443", "--allow", "[2001:db8::1]:80-90"],
            CreateVm {
                allow: vec![rule("*.example.org:443"), rule("[2001:db8::1]:80-90")],
                start: Some(true),
                ..CreateVm::default()
            },
        ),
        (
            &["--egress", "closed"],
            CreateVm { egress: Some(Mode::Closed), start: Some(true), ..CreateVm::default() },
        ),
    ];
    for (arguments, expected) in cases {
        let parsed = Arguments::try_parse_from([&["cove", "run"], arguments].concat());
        let Command::Run(run) = parsed.expect("parses").command else {
            panic!("{arguments:?} is a run");
        };
        let (mut request, _) = run.check().expect("valid");
        request.client = expected.client.clone();
        assert_eq!(
            serde_json::to_value(request).expect("JSON"),
            serde_json::to_value(expected).expect("JSON"),
            "{arguments:?}"
        );
    }
}

#[test]
fn what_cannot_be_parsed_is_said_in_one_sentence() {
    let mut said = String::new();
    for arguments in [
        &["run", "--memory", "512"][..],
        &["run", "--memory", "1K"],
        &["run", "--name", "Web"],
        &["run", "--net", "host"],
        &["run", "--env", "NAME"],
        &["run", "--allow", "*"],
        &["run", "--allow", "10.0.0.1/8"],
        &["run", "--egress", "on"],
        &["net", "deny", "web", "https://example.org"],
        &["net", "explain", "web", "example.org:0"],
        &["run", "--depth", "0"],
        &["op", "show", "x"],
    ] {
        let arguments = [&["cove"], arguments].concat();
        let error = Arguments::try_parse_from(arguments).expect_err("refused");
        let text = error.render().to_string();
        said.push_str(text.lines().next().expect("a line"));
        said.push('\n');
    }
    insta::assert_snapshot!(said, @r#"
    error: invalid value '512' for '--memory <SIZE>': `512` is not a size: write a whole number with K, M, G or T, such as 512M or 8G
    error: invalid value '1K' for '--memory <SIZE>': memory is given in whole MiB: write 512M or 2G
    error: invalid value 'Web' for '--name <NAME>': `Web` is not a valid VM name: only a-z, 0-9 and - are allowed
    error: invalid value 'host' for '--net <NET>'
    error: invalid value 'NAME' for '--env <K=V>': write NAME=VALUE, such as EDITOR=vi
    error: invalid value '*' for '--allow <RULE>': `*` is no rule: `*` stands only for whole parts at the beginning, as in `*.example.org`; a rule is `example.org`, `*.example.org:443`, `192.0.2.0/24`, `192.0.2.7:5432` or `[2001:db8::/32]:80-90`
    error: invalid value '10.0.0.1/8' for '--allow <RULE>': `10.0.0.1/8` is no rule: a range of that length around it is `10.0.0.0/8`; a rule is `example.org`, `*.example.org:443`, `192.0.2.0/24`, `192.0.2.7:5432` or `[2001:db8::/32]:80-90`
    error: invalid value 'on' for '--egress <EGRESS>'
    error: invalid value 'https://example.org' for '<RULE>': `https://example.org` is no rule: `//example.org` is neither a port (1 to 65535) nor `first-last`; a rule is `example.org`, `*.example.org:443`, `192.0.2.0/24`, `192.0.2.7:5432` or `[2001:db8::/32]:80-90`
    error: invalid value 'example.org:0' for '<HOST[:PORT]>': write HOST or HOST:PORT, such as example.org:443 or [2001:db8::1]:443
    error: invalid value '0' for '--depth <COMMITS>': number would be zero for non-zero type
    error: invalid value 'x' for '<OPERATION>': `x` is not a valid operation id: 12 hexadecimal digits are wanted
    "#);
}

#[test]
fn every_kind_has_its_status_and_is_named_where_the_status_is_not_its_own() {
    let statuses = KINDS.map(|kind| status(kind, Statuses::OfKind));
    assert_eq!(statuses, [1, 2, 3, 4, 5, 6, 7, 130]);
    assert_eq!(KINDS.map(|kind| status(kind, Statuses::OfRemote)), [125; 8]);
    let mut text = String::new();
    for kind in KINDS {
        let report = Report::new(kind, format!("it is {kind:?}"));
        text.push_str(&render(&report, Statuses::OfRemote));
        text.push('\n');
    }
    insta::assert_snapshot!(text, @r#"
    error: it is Failed
      kind: failed
    error: it is Invalid
      kind: invalid
    error: it is NotFound
      kind: not_found
    error: it is Conflict
      kind: conflict
    error: it is Unreachable
      kind: unreachable
    error: it is Refused
      kind: refused
    error: it is TimedOut
      kind: timed_out
    error: it is Cancelled
      kind: cancelled
    "#);
}

#[test]
fn a_failure_is_a_message_its_causes_and_a_hint() {
    let mut report = Report::new(Kind::Failed, "cannot start `web`").with_hint("free some\nspace");
    report.cause = vec!["two\nlines".to_owned(), "evil \u{1b}[2J\r\u{202e}".to_owned()];
    report.operation = Some("0123456789ab".parse().expect("an id"));
    insta::assert_snapshot!(render(&report, Statuses::OfKind), @r#"
    error: cannot start `web`
      cause: two
             lines
      cause: evil \u{1b}[2J\u{d}\u{202e}
      operation: 0123456789ab

    hint: free some
    hint: space
    "#);
}

#[test]
fn vms_are_listed_and_shown() {
    insta::assert_snapshot!(list::render(&two(), now()), @r#"
    NAME           STATE    IMAGE   VCPU  MEMORY  NET   AGE  REPOSITORY
    web            running  debian  2     1536M   user  3h   -
    a-longer-name  stopped  debian  2     512M    none  3h   /home/u/pro\u{202e}ject
    "#);
    let mut stalled = vm("web", "aaaaaaaaaaaa");
    stalled.stalled = Some("the host's disk is full".to_owned());
    insta::assert_snapshot!(list::render(&[stalled.clone()], now()), @r#"
    NAME  STATE              IMAGE   VCPU  MEMORY  NET   AGE  REPOSITORY
    web   running (stalled)  debian  2     1536M   user  3h   -
    "#);
    assert!(show::render(&stalled).contains("\nstalled       the host's disk is full\n"));
    insta::assert_snapshot!(list::render(&[], now()), @"NAME  STATE  IMAGE  VCPU  MEMORY  NET  AGE  REPOSITORY");
    insta::assert_snapshot!(show::render(&two()[1]), @r#"
    name          a-longer-name
    id            abbbbbbbbbbb
    state         stopped
    image         debian
    kernel        6923dd1bc0460082c5d55a831908c24a282860b7f1cd6c2b79cf1bc8857c639c
    monitor       qemu
    vcpu          2
    memory        512M
    work disk     8G
    root disk     8G
    net           none
    created       2026-11-23T12:00:00Z
    last used     2026-11-23T12:30:00Z
    cause         its monitor\nwas \u{1b}[2Jkilled
    accel         tcg
    address       10.0.2.15
    started       2026-11-23T12:00:02Z
    process       4711
    ssh host key  ssh-ed25519 AAAA web
    repository    /home/u/pro\u{202e}ject
    in the guest  /root/project
    base commit   none yet
    label         team=a
    "#);
}

#[test]
fn doctor_has_a_verdict_a_finding_and_what_to_do() {
    let check = |name: &str, verdict, found: &str, hint: Option<&str>| Check {
        name: name.to_owned(),
        verdict,
        found: found.to_owned(),
        hint: hint.map(str::to_owned),
    };
    let checks = [
        check("kvm", Verdict::Warn, "opens, but runs no guest", Some("starts are slower")),
        check("qemu", Verdict::Pass, "10.0.2", None),
        check("mke2fs", Verdict::Fail, "not found", Some("apt install e2fsprogs\nor build it")),
        doctor::no_daemon(&Report::new(Kind::Unreachable, "cannot start the daemon")),
    ];
    insta::assert_snapshot!(doctor::render(&checks), @r#"
    VERDICT  CHECK   FOUND
    WARN     kvm     opens, but runs no guest
             hint: starts are slower
    PASS     qemu    10.0.2
    FAIL     mke2fs  not found
             hint: apt install e2fsprogs
             hint: or build it
    FAIL     daemon  cannot start the daemon
    "#);
}

#[test]
fn an_operation_is_shown_with_its_stages() {
    let operation = Operation {
        id: "0123456789ab".parse().expect("an id"),
        action: "create".to_owned(),
        vm: "aaaaaaaaaaaa".parse().expect("an id"),
        vm_name: "web".parse().expect("a name"),
        stages: vec![
            Stage { name: "disks".to_owned(), began_us: 120, took_us: Some(3_400) },
            Stage { name: "boot".to_owned(), began_us: 3_520, took_us: None },
        ],
        notes: vec!["tried again".to_owned()],
        started_at: "2026-11-23T12:00:00Z".to_owned(),
        end: Some(OperationEnd::Failed {
            error: Report::new(Kind::TimedOut, "no answer"),
            vm_kept: true,
            console_saved: None,
        }),
    };
    insta::assert_snapshot!(op::show(&operation), @r#"
    operation  0123456789ab
    action     create
    vm         web (aaaaaaaaaaaa)
    state      timed_out
    started    2026-11-23T12:00:00Z
    took       0.004 s
    error      no answer
    note       tried again

    STAGE  BEGAN   TOOK
    disks  0.1 ms  3.4 ms
    boot   3.5 ms  -
    "#);
    assert_eq!(super::progress::doing(&operation), "web: boot");
}

#[test]
fn the_configuration_is_written_as_its_file() {
    let value = serde_json::json!({ "vm": { "vcpu": 1, "image": null }, "file_sync": [] });
    insta::assert_snapshot!(config::render(&value), @r#"
    file_sync = []

    [vm]
    vcpu = 1
    "#);
}

#[test]
fn a_console_is_escaped_however_it_is_cut() {
    let console = "boot\r\nlogin: \r\r\nevil\u{1b}]0;x\u{7}\rover\r\n";
    let mut whole = logs::Text::escaped();
    let expected = "boot\nlogin: \nevil\\u{1b}]0;x\\u{7}\\u{d}over\n";
    assert_eq!(whole.piece(console), expected);
    for cut in (0..console.len()).filter(|cut| console.is_char_boundary(*cut)) {
        let mut text = logs::Text::escaped();
        let (one, two) = console.split_at(cut);
        assert_eq!(text.piece(one) + &text.piece(two), expected, "cut at {cut}");
    }
    assert_eq!(logs::Text::Raw.piece(console), console);
}

#[test]
fn ages_and_sizes_are_short() {
    for (time, age) in [
        ("2026-11-23T15:04:00Z", "5s"),
        ("2026-11-23T14:04:05Z", "1h"),
        ("2026-11-20T15:04:04Z", "3d"),
        ("2026-11-24T00:00:00Z", "0s"),
        ("yesterday", "yesterday"),
    ] {
        assert_eq!(output::age(time, now()), age, "{time}");
    }
    for (bytes, size) in [(300, "300 bytes"), (512 << 20, "512M"), ((3 << 20) + 7, "3M")] {
        assert_eq!(output::size(bytes), size);
    }
}
