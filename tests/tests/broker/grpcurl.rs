//! grpcurl, which has no file of the API: it publishes, consumes and reads failures by reflection alone. It
//! is in the folder that MQ_PEERS names (`cargo xtask test` puts it there); without it this test says so and
//! passes.

use std::process::{Command, Output};

use mq_tests::Broker;
use serde_json::{Value, json};

use crate::peers::peer;

/// Calls a method of `mq.v1`.
fn call(broker: &Broker, program: &std::path::Path, method: &str, request: &Value) -> Output {
    let mut grpcurl = Command::new(program);
    // Bounds the test, not its outcome.
    grpcurl.args(["-plaintext", "-max-time", "30", "-d", &request.to_string()]);
    grpcurl.arg(broker.grpc_address()).arg(format!("mq.v1.{method}")).output().unwrap()
}

/// The answer of a call that succeeds.
fn answer(broker: &Broker, program: &std::path::Path, method: &str, request: &Value) -> Value {
    let output = call(broker, program, method, request);
    assert!(output.status.success(), "{method}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn grpcurl_publishes_pulls_acknowledges_and_shows_the_field_that_is_wrong() {
    let Some(program) = peer("grpcurl") else { return };
    let broker = Broker::start();
    let body = json!({ "topic": "orders", "messages": [{ "body": "aGVsbG8=" }] });
    answer(&broker, &program, "PublishService/Publish", &body);
    let pull = json!({ "topic": "orders", "channel": "billing", "max_messages": 10, "wait_ms": 5000 });
    let pulled = answer(&broker, &program, "SubscribeService/Pull", &pull);
    assert_eq!(pulled["messages"][0]["body"], "aGVsbG8=", "{pulled}");
    let token = &pulled["messages"][0]["token"];
    let finish = json!({ "topic": "orders", "channel": "billing", "finish": [token] });
    answer(&broker, &program, "SubscribeService/Acknowledge", &finish);
    // The message is done: its token is of no use any more.
    let late = call(&broker, &program, "SubscribeService/Acknowledge", &finish);
    let text = String::from_utf8_lossy(&late.stdout).into_owned() + &String::from_utf8_lossy(&late.stderr);
    assert!(text.contains("NOT_IN_FLIGHT"), "{text}");

    let wrong = json!({ "topic": "no name", "messages": [{ "body": "aGVsbG8=" }] });
    let refused = call(&broker, &program, "PublishService/Publish", &wrong);
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{text}");
    for part in ["InvalidArgument", "google.rpc.BadRequest", "fieldViolations", "\"field\": \"topic\""] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
}
