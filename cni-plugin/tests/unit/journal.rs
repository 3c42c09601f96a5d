//! The journal survives what can happen to it: torn lines, strangers' files, a claim
//! that another attachment took over.

use std::{ffi::OsString, io::Write};

use proptest::prelude::*;
use serde_json::json;
use xpu_model::Mac;

use super::{entry::cut_half_line, *};
use crate::{
    env::Attachment,
    pf::{PfChange, PfSide, Setting, SettingKey},
    port::{Port, PortMode},
};

fn record(container_id: &str) -> Record {
    let attachment = Attachment {
        container_id: container_id.to_owned(),
        ifname: "net1".parse().unwrap(),
        netns: None,
    };
    let mac = "02:00:00:00:00:07".parse().unwrap();
    let pf = PfSide {
        netdev: "ens1".parse().unwrap(),
        vf: 3,
        changes: vec![PfChange {
            key: SettingKey::Mac,
            set: Setting::Mac(Some(mac)),
            back: Setting::Mac(None),
        }],
        mac: None,
    };
    let netdev = Netdev {
        name: "ens1v3".parse().unwrap(),
        mac,
        mtu: 1500.try_into().unwrap(),
        up: false,
        flags: None,
        txqlen: None,
        group: None,
        alias: None,
        alt_names: None,
    };
    let vf = Vf {
        pci: "0000:af:06.0".parse().unwrap(),
        netdev: Some(netdev),
        pf: Some(pf),
    };
    Record {
        format: Record::FORMAT,
        network: "red".to_owned(),
        netns: NetNsRef {
            path: "/run/netns/a".to_owned(),
            dev: 4,
            ino: 5,
        },
        boot_id: "boot".to_owned(),
        vf,
        port: Port {
            id: Key::of(&attachment).port_id(),
            mac,
            attach: PortMode::Transparent,
        },
        agent: "unix:///run/a.sock".to_owned(),
        tls: None,
        ipam: Some(Ipam {
            name: "host-local".to_owned(),
            config: json!({"name": "red"}),
            args: None,
            path: None,
        }),
        device_info: None,
        container_id: attachment.container_id,
        ifname: attachment.ifname,
    }
}

fn journal() -> (tempfile::TempDir, Journal) {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&dir.path().join("state")).unwrap();
    (dir, journal)
}

#[test]
fn a_record_reads_back_with_the_steps_that_began() {
    let (_dir, journal) = journal();
    let mut entry = journal.create(record("a")).unwrap();
    entry.begin(Step::Port).unwrap();
    entry.begin(Step::Move).unwrap();
    let read = journal.load(&entry.record.key()).unwrap().unwrap();
    assert_eq!(read.record, entry.record);
    assert!(read.has_begun(Step::Port) && read.has_begun(Step::Move));
    assert!(!read.has_begun(Step::Ipam));
}

fn learned(alt_names: Option<Vec<OsString>>, mac: Option<Mac>) -> Learned {
    Learned { alt_names, mac }
}

/// That a step was noted says that it may have happened; that another one was, that it has.
#[test]
fn a_step_has_ended_when_another_one_began() {
    let (_dir, journal) = journal();
    let mut entry = journal.create(record("a")).unwrap();
    assert!(!entry.has_ended(Step::Move));
    entry.begin(Step::Port).unwrap();
    entry.begin(Step::Move).unwrap();
    // Once more, with what became known before it could be done.
    entry
        .begin_with(Step::Move, learned(Some(Vec::new()), None))
        .unwrap();
    assert!(entry.has_ended(Step::Port) && !entry.has_ended(Step::Move));
    // An ADD that was killed there is undone: whether the VF has moved is not known by that.
    entry.begin(Step::Detaching).unwrap();
    assert!(!entry.has_ended(Step::Move));
    entry.begin(Step::Attached).unwrap();
    let read = journal.load(&entry.record.key()).unwrap().unwrap();
    assert!(read.has_ended(Step::Move) && !read.has_ended(Step::Attached));
    assert!(read.has_begun(Step::Detaching));
}

#[test]
fn forgetting_takes_the_claim_along_but_no_one_elses() {
    let (_dir, journal) = journal();
    let (old, new) = (
        journal.create(record("old")).unwrap(),
        journal.create(record("new")).unwrap(),
    );
    let pci = old.record.vf.pci.clone();
    journal.claim(&pci, &old.record.key()).unwrap();
    journal.claim(&pci, &new.record.key()).unwrap();
    journal.forget(&old).unwrap();
    assert_eq!(journal.owner(&pci), Some(new.record.key()));
    assert!(journal.load(&old.record.key()).unwrap().is_none());
    journal.forget(&new).unwrap();
    assert_eq!(journal.owner(&pci), None);
    journal.forget(&new).unwrap();
}

#[test]
fn a_record_of_garbage_is_told_once_and_set_aside() {
    let (dir, journal) = journal();
    let key = record("a").key();
    let path = dir.path().join("state/attachments").join(key.as_str());
    for garbage in [&b""[..], b"{}", b"{}\n", b"\xff\xfe\n", b"[1]\nx\n"] {
        fs::write(&path, garbage).unwrap();
        // Who only looks leaves it where it is.
        for _ in 0..2 {
            let told = journal.load(&key);
            assert!(
                matches!(&told, Err(JournalError::Corrupt { path: told, .. }) if *told == path),
                "{garbage:?}: {told:?}"
            );
        }
        let told = journal.load_or_set_aside(&key);
        assert!(
            matches!(&told, Err(JournalError::Corrupt { path: told, .. }) if *told != path),
            "{garbage:?}: {told:?}"
        );
        assert!(journal.load_or_set_aside(&key).unwrap().is_none());
    }
    // A true record under a name that isn't its own is no one's.
    let other = journal.create(record("b")).unwrap();
    fs::rename(&other.path, &path).unwrap();
    assert!(matches!(
        journal.load(&key),
        Err(JournalError::Corrupt { .. })
    ));
}

/// Two calls have read it at the same time.
#[test]
fn what_another_call_has_set_aside_is_there_no_more() {
    let (dir, journal) = journal();
    let path = dir
        .path()
        .join("state/attachments")
        .join(record("a").key().as_str());
    fs::write(&path, "{").unwrap();
    let mut told = [(); 2].map(|()| journal.set_aside(&path, String::new()));
    assert!(
        matches!(told[0], Err(JournalError::Corrupt { .. })),
        "{told:?}"
    );
    assert!(matches!(told[1], Ok(None)), "{told:?}");
    // Where it can't be set aside it stays, and is told of.
    fs::write(&path, "{").unwrap();
    fs::remove_dir_all(dir.path().join("state/corrupt")).unwrap();
    told[0] = journal.set_aside(&path, String::new());
    assert!(
        matches!(told[0], Err(JournalError::File { .. })),
        "{told:?}"
    );
}

/// After a downgrade: what the newer plugin must undo stays where that one finds it.
#[test]
fn what_a_newer_plugin_wrote_is_left_to_it() {
    let (dir, journal) = journal();
    let record = record("a");
    let key = record.key();
    let newer = |text: &str| text.replacen("\"format\":1", "\"format\":2", 1) + "\n";
    let state = dir.path().join("state");
    let path = state.join("attachments").join(key.as_str());
    // Also where it has taken another shape.
    for text in [
        newer(&record.line()),
        "{\"format\":7,\"x\":[]}\n".to_owned(),
    ] {
        fs::write(&path, &text).unwrap();
        let told = journal.load_or_set_aside(&key);
        assert!(matches!(told, Err(JournalError::Newer { .. })), "{told:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    let tombstone = state.join("tombstones").join(key.as_str());
    fs::write(&tombstone, newer(&Tombstone::of(&record).line())).unwrap();
    assert!(journal.tombstones().unwrap().is_empty());
    assert!(tombstone.exists());
}

#[test]
fn tombstones_are_kept_until_they_are_removed() {
    let (dir, journal) = journal();
    let tombstone = Tombstone::of(&record("a"));
    journal.add_tombstone(&tombstone).unwrap();
    journal.add_tombstone(&tombstone).unwrap();
    fs::write(dir.path().join("state/tombstones/stray.tmp"), "{").unwrap();
    let broken = Key::of(&record("b").attachment());
    fs::write(
        dir.path().join("state/tombstones").join(broken.as_str()),
        "{",
    )
    .unwrap();
    assert_eq!(
        journal.tombstones().unwrap(),
        std::slice::from_ref(&tombstone)
    );
    assert!(
        dir.path()
            .join("state/corrupt")
            .join(broken.as_str())
            .exists()
    );
    journal.remove_tombstone(&tombstone).unwrap();
    journal.remove_tombstone(&tombstone).unwrap();
    assert!(journal.tombstones().unwrap().is_empty());
}

/// An agent at another address may be another one.
#[test]
fn two_agents_tombstones_of_one_attachment_are_two() {
    let (_dir, journal) = journal();
    let mut other = record("a");
    other.agent = "unix:///run/b.sock".to_owned();
    let (one, two) = (Tombstone::of(&record("a")), Tombstone::of(&other));
    journal.add_tombstone(&one).unwrap();
    journal.add_tombstone(&two).unwrap();
    assert_eq!(journal.tombstones().unwrap().len(), 2);
    journal.remove_tombstone(&one).unwrap();
    assert_eq!(journal.tombstones().unwrap(), [two]);
}

/// Such a file has the key alone for its name, and knows no MAC.
#[test]
fn an_earlier_versions_tombstone_is_read_and_goes() {
    let (dir, journal) = journal();
    let tombstone = Tombstone::of(&record("a"));
    let text = tombstone
        .line()
        .replace(r#""mac":"02:00:00:00:00:07","#, "");
    assert_ne!(text, tombstone.line());
    let folder = dir.path().join("state/tombstones");
    let path = folder.join(tombstone.key().as_str());
    fs::write(&path, format!("{text}\n")).unwrap();
    let read = journal.tombstones().unwrap();
    assert_eq!((read.len(), read[0].mac), (1, None));
    assert_eq!(read[0].key(), tombstone.key());
    // Another agent's leaves it alone.
    let mut other = record("a");
    other.agent = "unix:///run/b.sock".to_owned();
    journal.remove_tombstone(&Tombstone::of(&other)).unwrap();
    assert!(path.exists());
    journal.remove_tombstone(&read[0]).unwrap();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

/// A port is not given up for a disk or a memory that failed once.
#[test]
fn a_tombstone_that_cannot_be_read_now_is_not_set_aside() {
    let (dir, journal) = journal();
    let (kept, other) = (Tombstone::of(&record("a")), Tombstone::of(&record("b")));
    journal.add_tombstone(&kept).unwrap();
    journal.add_tombstone(&other).unwrap();
    let tombstones = dir.path().join("state/tombstones");
    let path = tombstones.join(kept.file());
    let away = dir.path().join("away");
    fs::rename(&path, &away).unwrap();
    // As root reads every file, one that is a folder.
    fs::create_dir(&path).unwrap();
    for _ in 0..2 {
        let told = journal.tombstones();
        assert!(matches!(told, Err(JournalError::File { .. })), "{told:?}");
    }
    fs::remove_dir(&path).unwrap();
    fs::rename(&away, &path).unwrap();
    assert_eq!(journal.tombstones().unwrap().len(), 2);
    // The same with a record.
    let key = record("a").key();
    fs::create_dir(dir.path().join("state/attachments").join(key.as_str())).unwrap();
    for _ in 0..2 {
        let told = journal.load_or_set_aside(&key);
        assert!(matches!(told, Err(JournalError::File { .. })), "{told:?}");
    }
    // What can be read, and is no text, is no tombstone.
    fs::write(&path, b"\xff\xfe").unwrap();
    assert_eq!(journal.tombstones().unwrap(), [other]);
    assert!(!path.exists());
}

/// A delegate's DEL must see the configuration that its ADD saw.
#[test]
fn numbers_of_a_configuration_survive_the_journal() {
    let config = r#"{"rate":1111111111111111111111111,"part":0.1e-7,"id":18446744073709551615}"#;
    let mut record = record("a");
    if let Some(ipam) = &mut record.ipam {
        ipam.config = serde_json::from_str(config).unwrap();
    }
    let text = format!("{}\n", record.line());
    let (read, _) = Record::parse(&text).unwrap();
    assert_eq!(read, record);
    assert_eq!(format!("{}\n", read.line()), text);
}

#[test]
fn format_1_is_read_for_ever() {
    let golden = include_str!("../golden/record-v1.jsonl");
    let (read, steps) = Record::parse(golden).unwrap();
    assert_eq!(read, record("a"));
    assert_eq!(steps, [Step::Port, Step::Ipam]);
    let newer = golden.replacen("\"format\":1", "\"format\":2", 1);
    assert!(Record::parse(&newer).is_err());
}

/// Of what may be missing from a record nothing is lost where it is there.
#[test]
fn all_of_a_netdev_reads_back_its_names_bytes_included() {
    use std::os::unix::ffi::OsStringExt;

    let mut record = record("a");
    let names = vec!["rack7".into(), OsString::from_vec(b"\xff\xfe".to_vec())];
    if let Some(netdev) = &mut record.vf.netdev {
        netdev.flags = Some(0x1100);
        netdev.txqlen = Some(55);
        netdev.group = Some(5);
        netdev.alt_names = Some(names.clone());
    }
    let line = record.line();
    assert!(
        line.contains(r#""alt_names":["rack7",[255,254]]"#),
        "{line}"
    );
    let (read, _) = Record::parse(&format!("{line}\n")).unwrap();
    assert_eq!(read, record);
    // The names as a later step's line has them.
    if let Some(netdev) = &mut record.vf.netdev {
        netdev.alt_names = None;
    }
    let text = format!(
        "{}\n{}\n",
        record.line(),
        Step::Attached.line(&learned(Some(names.clone()), None))
    );
    let (read, steps) = Record::parse(&text).unwrap();
    assert_eq!(steps, [Step::Attached]);
    assert_eq!(read.vf.netdev.unwrap().alt_names, Some(names));
}

#[test]
fn a_port_that_took_another_mac_reads_back_with_it() {
    let (_dir, journal) = journal();
    let mut entry = journal.create(record("a")).unwrap();
    entry.begin(Step::Move).unwrap();
    let mac = "02:00:00:00:0f:0f".parse().unwrap();
    let names = Some(vec!["rack7".into()]);
    entry
        .begin_with(Step::Port, learned(names.clone(), Some(mac)))
        .unwrap();
    entry.begin(Step::Attached).unwrap();
    let read = journal.load(&entry.record.key()).unwrap().unwrap();
    assert_eq!((&read.record, read.record.port.mac), (&entry.record, mac));
    assert_eq!(read.record.vf.netdev.as_ref().unwrap().alt_names, names);
    assert!(read.has_ended(Step::Move) && read.has_begun(Step::Attached));
}

#[test]
fn an_earlier_versions_folder_of_locks_is_in_nobodys_way() {
    let root = tempfile::tempdir().unwrap();
    for folder in ["locks", "corrupt"] {
        fs::create_dir(root.path().join(folder)).unwrap();
    }
    let journal = Journal::open(root.path()).unwrap();
    let turn = journal.turn_lock();
    crate::lock::lock(&turn, std::time::Instant::now()).unwrap();
}

#[test]
fn what_follows_half_a_line_is_read() {
    let (_dir, journal) = journal();
    let mut entry = journal.create(record("a")).unwrap();
    entry.begin(Step::Port).unwrap();
    // As a writer leaves it that is killed; the next one opens the record by its path.
    let mut file = entry.file.take().unwrap();
    file.write_all(br#"{"step":"mo"#).unwrap();
    let mut entry = journal.load(&entry.record.key()).unwrap().unwrap();
    entry.begin(Step::Detaching).unwrap();
    let read = journal.load(&entry.record.key()).unwrap().unwrap();
    assert_eq!(read.begun, [Step::Port, Step::Detaching]);
    // Nothing to cut.
    let whole = fs::read(&entry.path).unwrap();
    cut_half_line(&file, &entry.path).unwrap();
    assert_eq!(fs::read(&entry.path).unwrap(), whole);
}

proptest! {
    #[test]
    fn a_torn_tail_loses_at_most_the_torn_step(cut in 0usize..60) {
        let mut text = format!("{}\n", record("a").line());
        let whole = text.len();
        text.push_str(&format!("{}\n{}\n", Step::Port.line(&Learned::default()), Step::Ipam.line(&Learned::default())));
        text.truncate(text.len().min(whole + cut));
        let (read, steps) = Record::parse(&text).unwrap();
        prop_assert_eq!(read, record("a"));
        prop_assert!([Step::Port, Step::Ipam].starts_with(&steps));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,100}\n?\\PC{0,20}") {
        let _ = Record::parse(&text);
        let _ = Tombstone::parse(&text);
    }
}
