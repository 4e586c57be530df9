//! `nsq_to_file` and `mq archive`.

use std::fs;
use std::io::Read;
use std::path::Path;

use mq_tests::{Broker, mq, until};

use crate::steps::{Running, publish, tools, unfinished, until_finished};

/// The files below a folder, by name, with what is in them; packed ones unpacked.
fn files(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            let below = files(&entry.path()).into_iter();
            found.extend(below.map(|(rest, text)| (format!("{name}/{rest}"), text)));
            continue;
        }
        let mut bytes = fs::read(entry.path()).unwrap();
        if name.ends_with(".gz") {
            let mut unpacked = Vec::new();
            let packed = std::mem::take(&mut bytes);
            flate2::read::MultiGzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
            bytes = unpacked;
        }
        found.push((name, String::from_utf8(bytes).unwrap()));
    }
    found.sort();
    found
}

/// Archives `lines` by each make of nsq_to_file with `flags`, and gives the files of each.
fn archived(lines: &str, flags: &[&str]) -> Vec<Vec<(String, String)>> {
    let all = tools("nsq_to_file").into_iter().map(|tool| {
        let (broker, folder) = (Broker::start(), tempfile::tempdir().unwrap());
        publish(&broker, "t", lines);
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (out, work) = (path("out"), path("work"));
        let flags: Vec<_> =
            flags.iter().map(|flag| if *flag == "WORK" { work.as_str() } else { flag }).collect();
        let args = ["-topic", "t", "-output-dir", &out, "-nsqd-tcp-address", broker.address()];
        let all = [
            &args[..],
            &["-host-identifier", "box", "-datetime-format", "now", "-sync-interval", "50ms"],
            &flags,
        ]
        .concat();
        let running = tool.start(&all);
        let count = lines.lines().filter(|line| !line.is_empty()).count() as u64;
        until_finished(&broker, "t", "nsq_to_file", count);
        assert_eq!(running.stop(), Some(0));
        assert!(!Path::new(&work).is_dir() || files(Path::new(&work)).is_empty(), "all is moved");
        files(Path::new(&out))
    });
    all.collect()
}

#[test]
fn the_files_are_those_of_nsq_byte_for_byte() {
    let lines: String = (0..300).map(|n| format!("line {n} é\n")).collect();
    let each = |flags: &[&str]| {
        let made = archived(&lines, flags);
        assert!(made.iter().all(|files| *files == made[0]), "{flags:?}: {made:?}");
        made[0].clone()
    };
    let plain = each(&[]);
    assert_eq!(plain, [("t.box.now.log".to_owned(), lines.clone())]);
    let packed = each(&["-gzip"]);
    assert_eq!(packed, [("t.box-000000.now.log.gz".to_owned(), lines.clone())]);
    let rotated = each(&["-rotate-size", "1000"]);
    assert!(rotated.len() > 2 && rotated[0].1.len() > 1000, "{rotated:?}");
    let moved = each(&["-work-dir", "WORK", "-filename-format", "<TOPIC>/<HOST><REV>.<DATETIME>"]);
    assert_eq!(moved, [("t/box-000000.now".to_owned(), lines)]);
}

fn archive(broker: &Broker, folder: &Path, flags: &[&str]) -> Running {
    let url = format!("mq://{}", broker.address());
    let args = ["archive", "--topic", "t", "--url", &url, "--output-dir", folder.to_str().unwrap()];
    Running(mq_tests::start(&[&args[..], &["--datetime-format", "now", "--filename-format"], flags].concat()))
}

#[test]
fn a_message_is_finished_only_once_it_is_on_disk() {
    let (broker, folder) = (Broker::start(), tempfile::tempdir().unwrap());
    publish(&broker, "t", "one\ntwo\n");
    let running = archive(&broker, folder.path(), &["<TOPIC>", "--sync-interval", "5m"]);
    until("the file", || (files(folder.path()) == [("t".to_owned(), "one\ntwo\n".to_owned())]).then_some(()));
    assert_eq!(unfinished(&broker, "t", "archive"), 2, "nothing was synced");
    // Closes the file, so that what is in it is on disk.
    running.hang_up();
    until_finished(&broker, "t", "archive", 2);
    // And opens it again, without harm.
    publish(&broker, "t", "three\n");
    until("the rest", || (files(folder.path())[0].1 == "one\ntwo\nthree\n").then_some(()));
    assert_eq!(running.stop(), Some(0));
    assert_eq!(unfinished(&broker, "t", "archive"), 0);
}

#[test]
fn a_full_credit_is_synced_before_its_interval() {
    let (broker, folder) = (Broker::start(), tempfile::tempdir().unwrap());
    let lines: String = (0..100).map(|n| format!("{n}\n")).collect();
    publish(&broker, "t", &lines);
    let flags = ["<TOPIC>", "--sync-interval", "5m", "--max-in-flight", "10"];
    let running = archive(&broker, folder.path(), &flags);
    until_finished(&broker, "t", "archive", 100);
    assert_eq!(files(folder.path())[0].1, lines);
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn a_file_that_cannot_be_written_ends_it_and_finishes_nothing() {
    let (broker, folder) = (Broker::start(), tempfile::tempdir().unwrap());
    publish(&broker, "t", "one\n");
    fs::write(folder.path().join("t"), "in the way").unwrap();
    let running = archive(&broker, folder.path(), &["<TOPIC>/x"]);
    assert_eq!(running.ended(), Some(1));
    until("it to be back", || (crate::steps::number(&broker, "t", "archive", "depth") == 1).then_some(()));
}

#[test]
fn folders_and_names_that_cannot_do_are_refused_before_the_first_message() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("file"), "in the way").unwrap();
    let (out, blocked, work) = (path("out"), path("file/out"), path("work"));
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let elsewhere = elsewhere.path().to_str().unwrap();
    for (flags, words) in [
        (&["--output-dir", &blocked][..], "must be a folder that this user can write to"),
        (&["--output-dir", &out, "--work-dir", &blocked], "--work-dir"),
        (&["--output-dir", &out, "--work-dir", elsewhere], "on another file system"),
        (&["--output-dir", &out, "--filename-format", "<TOPIC>.<NOPE>.log"], "<NOPE>, which is not known"),
        (&["--output-dir", &out, "--host-identifier", "<HOST>"], "<HOST>, which is not known"),
    ] {
        // No broker is there: nothing waits for one.
        let args = ["archive", "--topic", "t", "--url", "mq://127.0.0.1:1"];
        let complaint = mq(&[&args[..], flags].concat()).failed();
        assert!(complaint.contains(words), "{complaint}");
    }
    // The checks leave nothing behind.
    let broker = Broker::start();
    let running = archive(&broker, Path::new(&out), &["<TOPIC><REV>", "--work-dir", &work]);
    publish(&broker, "t", "one");
    // The folder comes with the command, and the checks' own file goes.
    let is_the_topics = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with('t');
    until("the file", || fs::read_dir(&work).ok()?.flatten().any(is_the_topics).then_some(()));
    assert!(files(Path::new(&out)).is_empty());
    assert_eq!(running.stop(), Some(0));
    assert_eq!(files(Path::new(&out)).len(), 1);
}

#[test]
fn a_work_folder_survives_a_hang_up_and_json_has_all_there_is() {
    let (broker, folder) = (Broker::start(), tempfile::tempdir().unwrap());
    let (out, work) = (folder.path().join("out"), folder.path().join("work"));
    let flags =
        ["<TOPIC><REV>", "--format", "json", "--work-dir", work.to_str().unwrap(), "--sync-interval", "10ms"];
    let running = archive(&broker, &out, &flags);
    for (n, body) in ["one", "two"].iter().enumerate() {
        publish(&broker, "t", body);
        until_finished(&broker, "t", "archive", n as u64 + 1);
        running.hang_up();
        until("the file to be moved", || (out.is_dir() && files(&out).len() == n + 1).then_some(()));
    }
    assert_eq!(running.stop(), Some(0));
    let bodies: Vec<_> = files(&out)
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(_, text)| serde_json::from_str::<serde_json::Value>(&text).unwrap()["body"].clone())
        .collect();
    assert_eq!(bodies, ["one", "two"]);
}

#[test]
fn a_pattern_without_lookup_servers_is_refused() {
    let complaint = mq(&["archive", "--topic-pattern", "x"]).failed();
    assert!(complaint.contains("lookup"), "{complaint}");
}

#[test]
fn a_new_channel_begins_at_the_place_that_is_given() {
    let (broker, folder) = (Broker::start(), tempfile::tempdir().unwrap());
    mq(&["topics", "create", "t", "--channel", "keep", "--http-address", broker.http_address()]).ok();
    publish(&broker, "t", "one\ntwo\nthree\n");
    let tcp = ["--tcp-address", broker.address()];
    let tail = ["tail", "--topic", "t", "--start", "earliest", "--json", "-n", "2"];
    let shown = String::from_utf8(mq(&[&tail[..], &tcp].concat()).ok()).unwrap();
    let second: serde_json::Value = serde_json::from_str(shown.lines().nth(1).unwrap()).unwrap();
    let offset = second["offset"].to_string();
    for (place, name, lines) in
        [(offset.as_str(), "offset", "two\nthree\n"), ("1970-01-01T00:00:00Z", "time", "one\ntwo\nthree\n")]
    {
        let flags = ["<TOPIC>", "--start", place, "--channel", name, "--sync-interval", "10ms"];
        let own = folder.path().join(name);
        fs::create_dir(&own).unwrap();
        let running = archive(&broker, &own, &flags);
        until("the file", || (files(&own) == [("t".to_owned(), lines.to_owned())]).then_some(()));
        assert_eq!(running.stop(), Some(0));
    }
}
