//! No change of the protos breaks clients: what the last tag of the repository promises, these keep. A
//! checkout without tags is held to `promises.txt`, a record of what clients may rely on, a line each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;

use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};

fn compile(folder: &Path) -> Vec<FileDescriptorProto> {
    let mut names: Vec<_> = std::fs::read_dir(folder.join("mq/v1"))
        .unwrap()
        .map(|file| format!("mq/v1/{}", file.unwrap().file_name().to_str().unwrap()))
        .collect();
    names.sort();
    let set = protox::compile(names, [folder]).unwrap();
    set.file.into_iter().filter(|file| file.package() == "mq.v1").collect()
}

/// Everything that a client may rely on, as lines: each with its place, its number and its type.
fn promises(files: &[FileDescriptorProto]) -> Vec<String> {
    let mut all = Vec::new();
    for file in files {
        let options = file.options.clone().unwrap_or_default();
        all.push(format!(
            "packages {} {} {} {} {} {} {}",
            file.name(),
            options.go_package(),
            options.java_package(),
            options.java_multiple_files(),
            options.csharp_namespace(),
            options.php_namespace(),
            options.ruby_package()
        ));
        // Generated code of some languages is in a module for each file.
        let in_file = |kind: &str, name: &str| format!("{kind} {name} {}", file.name());
        all.extend(file.service.iter().map(|service| in_file("service", service.name())));
        all.extend(file.message_type.iter().map(|message| in_file("message", message.name())));
        all.extend(file.enum_type.iter().map(|item| in_file("enum", item.name())));
        for service in &file.service {
            for method in &service.method {
                all.push(format!(
                    "rpc {}.{} {} {} {} {}",
                    service.name(),
                    method.name(),
                    method.input_type(),
                    method.client_streaming(),
                    method.output_type(),
                    method.server_streaming()
                ));
            }
        }
        file.message_type.iter().for_each(|message| message_promises("", message, &mut all));
        file.enum_type.iter().for_each(|item| enum_promises("", item, &mut all));
    }
    all
}

fn message_promises(outer: &str, message: &DescriptorProto, all: &mut Vec<String>) {
    let name = format!("{outer}{}", message.name());
    for field in &message.field {
        all.push(format!("field {name} {}", field_promise(message, field)));
    }
    let inner = format!("{name}.");
    message.nested_type.iter().for_each(|nested| message_promises(&inner, nested, all));
    message.enum_type.iter().for_each(|item| enum_promises(&inner, item, all));
}

fn field_promise(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let oneof = field.oneof_index.filter(|_| !field.proto3_optional());
    let oneof = oneof.map_or("", |at| message.oneof_decl[usize::try_from(at).unwrap()].name());
    let js = field.options.clone().unwrap_or_default();
    let words = [
        field.name(),
        &field.number().to_string(),
        field.label().as_str_name(),
        field.r#type().as_str_name(),
        field.type_name(),
        if field.proto3_optional() { "optional" } else { "" },
        oneof,
        if js.jstype.is_some() { js.jstype().as_str_name() } else { "" },
    ];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn enum_promises(outer: &str, item: &EnumDescriptorProto, all: &mut Vec<String>) {
    for value in &item.value {
        all.push(format!("value {outer}{} {} {}", item.name(), value.name(), value.number()));
    }
}

/// The promises of `old` that `new` breaks.
fn broken(old: Vec<String>, new: &[FileDescriptorProto]) -> Vec<String> {
    let kept = promises(new);
    old.into_iter().filter(|promise| !kept.contains(promise)).collect()
}

fn protos() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("proto")
}

/// The lines of `promises.txt`.
fn recorded() -> Vec<String> {
    include_str!("promises.txt").lines().map(str::to_owned).collect()
}

/// The last tag that has protos, and what it promises.
fn tagged() -> Option<(String, Vec<String>)> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        output.ok().filter(|output| output.status.success()).map(|output| output.stdout)
    };
    let tag = String::from_utf8(git(&["describe", "--tags", "--abbrev=0"])?).unwrap().trim().to_owned();
    let listed = String::from_utf8(git(&["ls-tree", "--name-only", &tag, "proto/mq/v1/"])?).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("mq/v1")).unwrap();
    for path in listed.lines() {
        let text = git(&["show", &format!("{tag}:./{path}")]).unwrap();
        let name = Path::new(path).file_name().unwrap();
        std::fs::write(folder.path().join("mq/v1").join(name), text).unwrap();
    }
    (!listed.is_empty()).then(|| (tag, promises(&compile(folder.path()))))
}

#[test]
fn the_protos_keep_every_promise() {
    let (whose, promised) = tagged().unwrap_or_else(|| ("promises.txt".to_owned(), recorded()));
    let broken = broken(promised, &compile(&protos()));
    let lines = broken.join("\n");
    assert!(broken.is_empty(), "clients rely on this, by {whose}, and the protos have it no more:\n{lines}");
}

#[test]
fn every_addition_to_the_protos_is_recorded() {
    let recorded = recorded();
    let added: Vec<_> =
        promises(&compile(&protos())).into_iter().filter(|promise| !recorded.contains(promise)).collect();
    let lines = added.join("\n");
    assert!(added.is_empty(), "the protos have this anew: add it to grpc/tests/promises.txt\n{lines}");
}

type Change = fn(&mut DescriptorProto);

#[test]
fn a_change_that_breaks_clients_is_found_and_an_addition_is_none() {
    let now = compile(&protos());
    let found = |files: &[FileDescriptorProto]| broken(promises(&now), files);
    assert_eq!(found(&now), [] as [String; 0]);
    let changed = |change: Change| {
        let mut files = now.clone();
        let mut messages = files.iter_mut().flat_map(|file| &mut file.message_type);
        change(messages.find(|message| message.name() == "ReceivedMessage").unwrap());
        files
    };
    let changes: [Change; 8] = [
        |message| message.field.truncate(6),
        |message| message.field[0].number = Some(70),
        |message| message.field[0].set_type(prost_types::field_descriptor_proto::Type::String),
        |message| message.field[0].set_label(prost_types::field_descriptor_proto::Label::Repeated),
        |message| message.field[0].name = Some("payload".to_owned()),
        |message| message.field[0].proto3_optional = Some(true),
        |message| message.field[1].options = None,
        |message| message.name = Some("Received".to_owned()),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        assert!(!found(&changed(change)).is_empty(), "change {at}");
    }
    let added = changed(|message| {
        let mut field = message.field[0].clone();
        (field.name, field.number) = (Some("more".to_owned()), Some(99));
        message.field.push(field);
    });
    assert_eq!(found(&added), [] as [String; 0]);
}

#[test]
fn a_method_a_value_a_package_or_a_file_that_is_gone_is_found() {
    let now = compile(&protos());
    let changes: [fn(&mut Vec<FileDescriptorProto>); 5] = [
        |files| {
            files.iter_mut().for_each(|file| file.service.iter_mut().for_each(|one| one.method.truncate(1)))
        },
        |files| {
            files.iter_mut().for_each(|file| {
                file.service.iter_mut().for_each(|one| {
                    one.method.iter_mut().for_each(|method| method.server_streaming = Some(true));
                })
            })
        },
        |files| {
            files.iter_mut().for_each(|file| file.enum_type.iter_mut().for_each(|one| one.value.truncate(1)))
        },
        |files| files[0].options.as_mut().unwrap().go_package = None,
        |files| {
            let moved = files[0].message_type.pop().unwrap();
            files[1].message_type.push(moved);
        },
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut files = now.clone();
        change(&mut files);
        assert!(!broken(promises(&now), &files).is_empty(), "change {at}");
    }
}
