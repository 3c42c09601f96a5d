//! `xpu-cni install`: its words, what it writes and what it says.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn words(line: &str) -> impl Iterator<Item = OsString> {
    let words: Vec<_> = line.split(' ').map(OsString::from).collect();
    words.into_iter()
}

#[test]
fn a_command_line_is_read_or_told() {
    let read = plan(words(
        "--bin-dir /opt --conf-dir /etc/cni/net.d --agent unix:///a",
    ))
    .unwrap();
    assert_eq!(read.bin, Path::new("/opt"));
    assert_eq!(read.conf.unwrap().1.addr().to_string(), "unix:///a");
    let read = plan(words("--bin-dir /opt --conf-dir /etc/cni/net.d")).unwrap();
    let addr = read.conf.unwrap().1.addr().to_string();
    assert_eq!(addr, "unix:///run/xpu-agent/agent.sock");
    let line =
        "--bin-dir /opt --conf-dir /etc/cni/net.d --agent https://h:1 --ca /a --cert /b --key /c";
    let tls = plan(words(line)).unwrap().conf.unwrap().1;
    assert_eq!(tls.tls().unwrap().key, Path::new("/c"));
    for (line, told) in [
        (
            "--conf-dir /etc/cni/net.d --agent unix:///a",
            "`--bin-dir` is missing",
        ),
        ("--bin-dir", "needs a value"),
        (
            "--bin-dir /opt --agent unix:///a",
            "`--conf-dir`, which is missing",
        ),
        (
            "--bin-dir /opt --ca /a --cert /b --key /c",
            "`--conf-dir`, which is missing",
        ),
        (
            "--bin-dir /opt --conf-dir /etc/cni/net.d --ca /a --cert /b --key /c",
            "only for https://",
        ),
        ("--bin-dir /opt --ca /a", "go together"),
        (
            "--bin-dir /opt --conf-dir /etc/cni/net.d --agent https://h:1",
            "required for https://h:1",
        ),
        (
            "--bin-dir /opt --conf-dir /etc/kubernetes/cni/net.d",
            "/etc/kubernetes/cni/net.d doesn't end in etc/cni/net.d",
        ),
        (
            "--bin-dir /opt --conf-dir /var/lib/rancher/k3s/agent/etc/cni",
            "add `--mounted-elsewhere`",
        ),
        (
            "--bin-dir /opt --mounted-elsewhere",
            "`--conf-dir`, which is missing",
        ),
        ("--bin-dir /opt --what", "`--what` is unknown"),
        (
            "--bin-dir /opt --conf-dir /etc/cni/net.d --agent x",
            "`x` is no address",
        ),
    ] {
        let error = plan(words(line)).unwrap_err().to_string();
        assert!(error.contains(told), "{line}: {error}");
    }
}

#[test]
fn programs_and_file_are_replaced_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (bin, conf) = (dir.path().join("bin"), dir.path().join(FOLDER));
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("xpu-cni"), "an older one").unwrap();
    let line = format!(
        "--bin-dir {} --conf-dir {} --agent unix:///run/a.sock",
        bin.display(),
        conf.display()
    );
    for _again in 0..2 {
        assert_eq!(run(words(&line)).unwrap().written.len(), 3);
    }
    let own = fs::read("/proc/self/exe").unwrap();
    assert_eq!(fs::read(bin.join("evpn-gw")).unwrap(), own);
    let mode = fs::metadata(bin.join("xpu-cni")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o755);
    let text = fs::read_to_string(conf.join(CONFIG)).unwrap();
    assert!(text.contains("unix:///run/a.sock"), "{text}");
    let names = fs::read_dir(&bin).unwrap().count();
    assert_eq!(names, 2, "no temporary file is left");
}

fn install(dir: &Path, rest: &str) -> Result<Installed, InstallError> {
    let (bin, conf) = (dir.join("bin"), dir.join(FOLDER));
    fs::create_dir_all(&bin).unwrap();
    run(words(&format!(
        "--bin-dir {} --conf-dir {}{rest}",
        bin.display(),
        conf.display()
    )))
}

#[test]
fn what_an_operator_added_to_the_file_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FOLDER).join(CONFIG);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let theirs = json!({"logFile": "/var/log/cni.log", "mtu": 9000, "pci_to_mac_path": "/m"});
    fs::write(&path, theirs.to_string()).unwrap();
    let with = |ours: Value| {
        let mut all = theirs.as_object().unwrap().clone();
        all.extend(ours.as_object().unwrap().clone());
        Value::Object(all)
    };
    let read = || serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap();

    let tls = " --agent https://h:1 --ca /a --cert /b --key /c";
    install(dir.path(), tls).unwrap();
    let files = json!({"ca": "/a", "cert": "/b", "key": "/c"});
    let pinned = with(json!({"agent": "https://h:1", "tls": files}));
    assert_eq!(read(), pinned);
    // The certificates go with the agent that needed them.
    install(dir.path(), "").unwrap();
    let pinned = with(json!({"agent": "unix:///run/xpu-agent/agent.sock"}));
    assert_eq!(read(), pinned);
}

#[test]
fn a_file_that_is_no_json_is_named_and_nothing_is_written() {
    for text in ["{\"logFile\": ", "[]", ""] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FOLDER).join(CONFIG);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let error = install(dir.path(), "").unwrap_err();
        let told = error.to_string();
        assert!(told.contains(&path.display().to_string()), "{told}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        let programs = fs::read_dir(dir.path().join("bin")).unwrap().count();
        assert_eq!(programs, 0, "{text:?}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_told() {
    let error = run(words("--bin-dir /nonexistent/bin")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/bin"), "{error}");
}

/// The plugin reads its host-wide file below the node's /etc/cni/net.d alone.
#[test]
fn the_folder_may_be_mounted_anywhere_as_long_as_it_is_that_one() {
    for (folder, rest) in [
        ("/etc/cni/net.d/", ""),
        ("/host/etc/cni/net.d", ""),
        ("stage/etc/cni/net.d", ""),
        ("/mnt/conf", " --mounted-elsewhere"),
    ] {
        let line = format!("--bin-dir /opt --conf-dir {folder}{rest} --agent unix:///a");
        let (conf, agent) = plan(words(&line)).unwrap().conf.unwrap();
        assert_eq!(conf, Path::new(folder));
        assert_eq!(agent.addr().to_string(), "unix:///a");
    }
}

#[test]
fn the_file_that_counts_no_more_is_told() {
    const PUBLIC: &str = "evpn-gw.d/evpn-gw.conf";
    let write = |path: PathBuf| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "{}").unwrap();
        path
    };
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(FOLDER);
    let ours = folder.join(CONFIG);
    assert_eq!(install(dir.path(), "").unwrap().shadowed, None);

    // Of the public plugin's two the first that exists counted.
    let second = write(folder.join(PUBLIC));
    let told = install(dir.path(), "").unwrap().shadowed;
    assert_eq!(told, Some((second, ours.clone())));
    let first = write(dir.path().join("etc/kubernetes/cni/net.d").join(PUBLIC));
    let told = install(dir.path(), "").unwrap().shadowed;
    assert_eq!(told, Some((first, ours)));

    // A mount of the one folder shows nothing of the node but that.
    let mount = dir.path().join("a/b/mount");
    let second = write(mount.join(PUBLIC));
    let line = format!(
        "--bin-dir {} --conf-dir {} --mounted-elsewhere",
        dir.path().join("bin").display(),
        mount.display()
    );
    let told = run(words(&line)).unwrap().shadowed;
    assert_eq!(told, Some((second, mount.join(CONFIG))));
    // Without a file of ours none is in the way of theirs.
    let line = format!("--bin-dir {}", dir.path().join("bin").display());
    assert_eq!(run(words(&line)).unwrap().shadowed, None);
}
