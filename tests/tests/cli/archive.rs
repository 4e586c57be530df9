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
