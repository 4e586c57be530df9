//! No change of the protos breaks clients: what the last tag of the repository has, these have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
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
            "packages {} {} {} {} {} {}",
            file.name(),
            options.go_package(),
            options.java_package(),
            options.csharp_namespace(),
            options.php_namespace(),
            options.ruby_package()
        ));
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
    let FieldDescriptorProto { label, r#type, .. } = field;
    format!(
        "{} {} {label:?} {type:?} {} optional={} oneof={oneof}",
        field.name(),
        field.number(),
        field.type_name(),
        field.proto3_optional()
    )
}

fn enum_promises(outer: &str, item: &EnumDescriptorProto, all: &mut Vec<String>) {
    for value in &item.value {
        all.push(format!("value {outer}{} {} {}", item.name(), value.name(), value.number()));
    }
}

/// The promises of `old` that `new` breaks.
fn broken(old: &[FileDescriptorProto], new: &[FileDescriptorProto]) -> Vec<String> {
    let kept = promises(new);
    promises(old).into_iter().filter(|promise| !kept.contains(promise)).collect()
}

fn protos() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("proto")
}

#[test]
fn nothing_that_the_last_tag_has_is_changed() {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        output.ok().filter(|output| output.status.success()).map(|output| output.stdout)
    };
    let Some(tag) = git(&["describe", "--tags", "--abbrev=0"]) else {
        println!("skipped: no tag to compare with");
        return;
    };
    let tag = String::from_utf8(tag).unwrap().trim().to_owned();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("mq/v1")).unwrap();
    let listed = git(&["ls-tree", "--name-only", &tag, "proto/mq/v1/"]).unwrap();
    for path in String::from_utf8(listed).unwrap().lines() {
        let text = git(&["show", &format!("{tag}:./{path}")]).unwrap();
        let name = Path::new(path).file_name().unwrap();
        std::fs::write(folder.path().join("mq/v1").join(name), text).unwrap();
    }
    let broken = broken(&compile(folder.path()), &compile(&protos()));
    assert!(broken.is_empty(), "{tag} promised, and these do not keep:\n{}", broken.join("\n"));
}

#[test]
fn a_change_that_breaks_clients_is_found_and_an_addition_is_none() {
    let now = compile(&protos());
    assert_eq!(broken(&now, &now), [] as [String; 0]);
    let changed = |change: fn(&mut DescriptorProto)| {
        let mut files = now.clone();
        let mut messages = files.iter_mut().flat_map(|file| &mut file.message_type);
        change(messages.find(|message| message.name() == "ReceivedMessage").unwrap());
        files
    };
    for breaking in [
        (|message| message.field.truncate(6)) as fn(&mut DescriptorProto),
        |message| message.field[0].number = Some(70),
        |message| message.field[0].set_type(prost_types::field_descriptor_proto::Type::String),
        |message| message.field[0].name = Some("payload".to_owned()),
        |message| message.name = Some("Received".to_owned()),
    ] {
        assert!(!broken(&now, &changed(breaking)).is_empty());
    }
    let added = changed(|message| {
        let mut field = message.field[0].clone();
        (field.name, field.number) = (Some("more".to_owned()), Some(99));
        message.field.push(field);
    });
    assert_eq!(broken(&now, &added), [] as [String; 0]);
    let mut fewer = now.clone();
    fewer.iter_mut().for_each(|file| file.service.iter_mut().for_each(|service| service.method.truncate(1)));
    assert!(!broken(&now, &fewer).is_empty());
}
