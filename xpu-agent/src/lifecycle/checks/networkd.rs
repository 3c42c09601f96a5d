//! Whether systemd-networkd takes away what it did not make: FRR's routes and next hops, the agent's
//! unreachable defaults, rules of others. It does unless its configuration says no
//! (networkd.conf(5)). Before systemd 256 it takes next hops even so; its files don't tell which it is.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use super::{Check, good, warning};

/// The texts of networkd's files by their paths; none if it has not run since the machine booted.
/// Else why one that is there can't be read.
pub type Files = Result<Option<BTreeMap<PathBuf, String>>, String>;

/// Of two files with one name, and of the main files, that in the first of these counts.
const FOLDERS: [&str; 4] = [
    "/etc/systemd",
    "/run/systemd",
    "/usr/local/lib/systemd",
    "/usr/lib/systemd",
];
const MAIN: &str = "networkd.conf";
const DROP_INS: &str = "networkd.conf.d";
/// It writes this when it runs.
const STATE: &str = "/run/systemd/netif/state";

/// Reads networkd's files.
pub(super) fn observe() -> Files {
    if !Path::new(STATE).exists() {
        return Ok(None);
    }
    let mut files = BTreeMap::new();
    for folder in FOLDERS {
        let folder = Path::new(folder);
        let drop_ins = folder.join(DROP_INS);
        let listed = in_words(&drop_ins, fs::read_dir(&drop_ins))?;
        for file in listed.into_iter().flatten() {
            let path = file.map_err(|error| format!("{}: {error}", drop_ins.display()))?;
            let path = path.path();
            if path.extension() == Some(OsStr::new("conf"))
                && let Some(text) = in_words(&path, fs::read_to_string(&path))?
            {
                files.insert(path, text);
            }
        }
        let main = folder.join(MAIN);
        if let Some(text) = in_words(&main, fs::read_to_string(&main))? {
            files.insert(main, text);
        }
    }
    Ok(Some(files))
}

/// What was read; none if there is no such file.
fn in_words<T>(path: &Path, read: io::Result<T>) -> Result<Option<T>, String> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read
            .map(Some)
            .map_err(|error| format!("{}: {error}", path.display())),
    }
}

/// Judges networkd's files.
pub(super) fn check(found: &Files) -> Check {
    const NAME: &str = "systemd-networkd";
    const MEND: &str = "`make install` puts a file into networkd.conf.d for it; else write [Network], \
        ManageForeignRoutes=no, ManageForeignRoutingPolicyRules=no and ManageForeignNextHops=no into \
        /etc/systemd/networkd.conf.d/50-xpu-agent.conf; then systemctl restart systemd-networkd";
    let files = match found {
        Ok(Some(files)) => files,
        Ok(None) => return good(NAME, "does not run"),
        Err(reason) => {
            let found = format!("unclear whether it takes away what is FRR's: {reason}");
            return warning(NAME, found, MEND);
        }
    };
    let manages = |key| value(files, key).unwrap_or(true);
    let taken: Vec<_> = [
        ("ManageForeignRoutes", "routes"),
        ("ManageForeignRoutingPolicyRules", "routing rules"),
        ("ManageForeignNextHops", "next hops"),
    ]
    .into_iter()
    .filter_map(|(key, what)| manages(key).then_some(what))
    .collect();
    if taken.is_empty() {
        return good(
            NAME,
            "is told to leave routes, rules and next hops of others alone",
        );
    }
    let found = format!(
        "takes away the {} that it did not make, FRR's among them",
        taken.join(" and the ")
    );
    warning(NAME, found, MEND)
}

/// What the files say of a key in `[Network]`: the last counts.
fn value(files: &BTreeMap<PathBuf, String>, key: &str) -> Option<bool> {
    let texts = in_order(files).into_iter().rev();
    let mut values = texts.flat_map(|text| values(text, key).into_iter().rev());
    values.next()
}

/// The texts that count: the main file first, then drop-ins by their names.
fn in_order(files: &BTreeMap<PathBuf, String>) -> Vec<&str> {
    let folders = FOLDERS.iter().map(Path::new);
    let main = folders.clone().find_map(|it| files.get(&it.join(MAIN)));
    let mut drop_ins: BTreeMap<&OsStr, &str> = BTreeMap::new();
    for folder in folders {
        let folder = folder.join(DROP_INS);
        for (path, text) in files {
            if path.parent() == Some(&folder)
                && let Some(name) = path.file_name()
            {
                drop_ins.entry(name).or_insert(text);
            }
        }
    }
    let main = main.map(String::as_str).into_iter();
    main.chain(drop_ins.into_values()).collect()
}

/// A key's values in one file's `[Network]`; what is no boolean (systemd.syntax(7)) is ignored.
fn values(text: &str, key: &str) -> Vec<bool> {
    let mut values = Vec::new();
    let mut is_network = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            is_network = line == "[Network]";
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        if is_network && name.trim_end() == key {
            values.extend(boolean(value.trim_start()));
        }
    }
    values
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    const NO: &str = "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n\
        ManageForeignNextHops=no\n";
    const YES: &str = "[Network]\nManageForeignRoutes=yes\nManageForeignRoutingPolicyRules=yes\n\
        ManageForeignNextHops=yes\n";
    const NO_TO_NEXT_HOPS: &str = "[Network]\nManageForeignNextHops=no\n";
    const AS_BEFORE_SYSTEMD_256: &str =
        "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n";
    const NO_AND_YES: &str = "[Network]\nManageForeignRoutes=no\nManageForeignRoutes=true\n\
        ManageForeignRoutingPolicyRules=no\nManageForeignNextHops=no\n";
    const INSTALLED: &str = include_str!("../../../../netconf-examples/systemd/networkd.conf");

    fn judged(files: &[(&str, &str)]) -> Check {
        let files = files
            .iter()
            .map(|(path, text)| (PathBuf::from(path), (*text).to_owned()));
        check(&Ok(Some(files.collect())))
    }

    #[rstest::rstest]
    #[case::by_default(&[], Some("routes and the routing rules and the next hops that"))]
    #[case::as_installed(
        &[("/usr/local/lib/systemd/networkd.conf.d/50-xpu-agent.conf", INSTALLED)], None)]
    #[case::in_the_main_file(&[("/etc/systemd/networkd.conf", NO)], None)]
    #[case::in_a_main_file_that_does_not_count(
        &[("/usr/lib/systemd/networkd.conf", NO), ("/etc/systemd/networkd.conf", "")],
        Some("routes and the routing rules and the next hops that"))]
    #[case::a_drop_in_wins_over_the_main_file(
        &[("/etc/systemd/networkd.conf", YES), ("/usr/lib/systemd/networkd.conf.d/a.conf", NO)],
        None)]
    #[case::of_drop_ins_the_last_by_name_counts(
        &[("/etc/systemd/networkd.conf.d/a.conf", YES), ("/usr/lib/systemd/networkd.conf.d/b.conf", NO)],
        None)]
    #[case::of_one_name_that_of_etc_counts(
        &[("/etc/systemd/networkd.conf.d/a.conf", ""), ("/usr/lib/systemd/networkd.conf.d/a.conf", NO)],
        Some("routes and the routing rules and the next hops that"))]
    #[case::only_rules(
        &[("/etc/systemd/networkd.conf", "[Network]\n ManageForeignRoutes = OFF \n"),
          ("/etc/systemd/networkd.conf.d/a.conf", NO_TO_NEXT_HOPS)],
        Some("the routing rules that"))]
    #[case::only_next_hops(
        &[("/etc/systemd/networkd.conf", AS_BEFORE_SYSTEMD_256)], Some("away the next hops that"))]
    #[case::the_last_in_a_file_counts(
        &[("/etc/systemd/networkd.conf", NO_AND_YES)],
        Some("the routes that"))]
    #[case::a_comment_an_empty_value_and_another_section_say_nothing(
        &[("/etc/systemd/networkd.conf",
           "#ManageForeignRoutes=no\nManageForeignRoutes=no\n[DHCPv4]\nManageForeignRoutes=no\n\
            [Network]\n;ManageForeignRoutes=no\nManageForeignRoutes=\n\
            ManageForeignRoutingPolicyRules=0\nManageForeignNextHops=n\n")],
        Some("the routes that"))]
    fn its_files_say_what_it_takes(#[case] files: &[(&str, &str)], #[case] taken: Option<&str>) {
        let check = judged(files);
        match taken {
            None => assert_eq!(check.verdict, Verdict::Good, "{check}"),
            Some(taken) => {
                assert_eq!(check.verdict, Verdict::Warning, "{check}");
                assert!(check.found.contains(taken), "{check}");
                let mend = check.mend.unwrap();
                assert!(
                    mend.contains("systemctl restart systemd-networkd"),
                    "{mend}"
                );
            }
        }
    }

    #[test]
    fn where_it_does_not_run_or_cannot_be_read_that_is_told() {
        assert_eq!(check(&Ok(None)).verdict, Verdict::Good);
        let unclear = check(&Err("/etc/systemd/networkd.conf: not UTF-8".to_owned()));
        assert_eq!(unclear.verdict, Verdict::Warning);
        assert!(unclear.found.ends_with("not UTF-8"), "{unclear}");
    }
}
