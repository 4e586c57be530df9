//! The rules that the protos follow: what `buf lint` would ask for, and that everything is explained.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto};

fn files() -> Vec<FileDescriptorProto> {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let names: Vec<_> = mq_grpc::PROTOS.iter().map(|(name, _)| *name).collect();
    let set = protox::compile(names, [protos]).unwrap();
    set.file.into_iter().filter(|file| file.package() == "mq.v1").collect()
}

fn is_pascal(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric())
}

fn is_lower_snake(name: &str) -> bool {
    name.split('_')
        .all(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()))
}

/// `START_EDGE` of `StartEdge`.
fn upper_snake(name: &str) -> String {
    let mut out = String::new();
    for (at, c) in name.chars().enumerate() {
        if at > 0 && c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

fn check_message(message: &DescriptorProto, wrong: &mut Vec<String>) {
    let name = message.name();
    if !is_pascal(name) {
        wrong.push(format!("message {name} is not PascalCase"));
    }
    let mut numbers: Vec<_> = message.field.iter().map(|field| field.number()).collect();
    for field in &message.field {
        if !is_lower_snake(field.name()) {
            wrong.push(format!("{name}.{} is not lower_snake_case", field.name()));
        }
    }
    numbers.sort_unstable();
    // A number that is not used was, and must be reserved.
    let reserved: HashSet<i32> =
        message.reserved_range.iter().flat_map(|range| range.start()..range.end()).collect();
    let last = numbers.last().copied().unwrap_or_default();
    for number in 1..=last {
        if !numbers.contains(&number) && !reserved.contains(&number) {
            wrong.push(format!("{name} has no field {number}, and does not reserve it"));
        }
    }
    message.nested_type.iter().for_each(|nested| check_message(nested, wrong));
    message.enum_type.iter().for_each(|nested| check_enum(nested, wrong));
}

fn check_enum(item: &EnumDescriptorProto, wrong: &mut Vec<String>) {
    let prefix = upper_snake(item.name());
    for value in &item.value {
        let name = value.name();
        if !name.starts_with(&format!("{prefix}_")) || name.to_ascii_uppercase() != name {
            wrong.push(format!("{name} is not {prefix}_..."));
        }
    }
    let first = &item.value[0];
    if first.number() != 0 || first.name() != format!("{prefix}_UNSPECIFIED") {
        wrong.push(format!("{} does not begin with {prefix}_UNSPECIFIED = 0", item.name()));
    }
}

#[test]
fn names_and_numbers_follow_the_rules() {
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for file in files() {
        if file.syntax() != "proto3" || !file.name().starts_with("mq/v1/") {
            wrong.push(format!("{} is not proto3 in the folder of its package", file.name()));
        }
        file.message_type.iter().for_each(|message| check_message(message, &mut wrong));
        file.enum_type.iter().for_each(|item| check_enum(item, &mut wrong));
        for service in &file.service {
            if !is_pascal(service.name()) || !service.name().ends_with("Service") {
                wrong.push(format!("service {} is not PascalCase...Service", service.name()));
            }
            for method in &service.method {
                let name = method.name();
                if !is_pascal(name) {
                    wrong.push(format!("rpc {name} is not PascalCase"));
                }
                for (have, suffix) in [(method.input_type(), "Request"), (method.output_type(), "Response")] {
                    if have != format!(".mq.v1.{name}{suffix}") {
                        wrong.push(format!("rpc {name} has {have}, and should have {name}{suffix}"));
                    }
                    if !used.insert(have.to_owned()) {
                        wrong.push(format!("{have} is used twice"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(used.len() % 2, 0);
}

#[test]
fn everything_is_explained() {
    let mut missing = Vec::new();
    for file in files() {
        let info = file.source_code_info.as_ref().expect("source information");
        let explained: HashSet<&[i32]> = info
            .location
            .iter()
            .filter(|location| !location.leading_comments().trim().is_empty())
            .map(|location| &location.path[..])
            .collect();
        // Numbers of the fields in FileDescriptorProto and what is in it.
        for location in &info.location {
            let is_item = matches!(
                location.path[..],
                [12] | [4..=6, _]
                    | [4, _, 2, _]
                    | [5, _, 2, _]
                    | [6, _, 2, _]
                    | [4, _, 8, _]
                    | [4, _, 3 | 4, _]
            );
            if is_item && !explained.contains(&location.path[..]) {
                missing.push(format!("{}:{:?} of {:?}", file.name(), location.span, location.path));
            }
        }
    }
    assert!(missing.is_empty(), "no comment before\n{}", missing.join("\n"));
}

#[test]
fn what_is_generated_is_what_is_described() {
    use prost::Message;
    let built = prost_types::FileDescriptorSet::decode(mq_grpc::v1::DESCRIPTORS).unwrap();
    let names = |files: &[FileDescriptorProto]| {
        files.iter().map(|file| file.name().to_owned()).collect::<BTreeSet<_>>()
    };
    let ours: Vec<_> = built.file.into_iter().filter(|file| file.package() == "mq.v1").collect();
    assert_eq!(names(&ours), names(&files()));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/mq/v1");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), mq_grpc::PROTOS.len(), "PROTOS has every file");
}

#[test]
fn each_file_names_its_package_in_every_language() {
    for file in files() {
        let options = file.options.clone().unwrap_or_default();
        let packages = [
            ("go_package", options.go_package(), "github.com/libmq/libmq/grpc/go/mqv1;mqv1"),
            ("java_package", options.java_package(), "io.libmq.v1"),
            ("csharp_namespace", options.csharp_namespace(), "Libmq.V1"),
            ("ruby_package", options.ruby_package(), "Libmq::V1"),
            ("php_namespace", options.php_namespace(), r"Libmq\V1"),
        ];
        for (option, package, wanted) in packages {
            assert_eq!(package, wanted, "{option} of {}", file.name());
        }
        assert!(options.java_multiple_files(), "java_multiple_files of {}", file.name());
    }
}
