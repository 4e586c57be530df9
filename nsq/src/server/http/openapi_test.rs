//! docs/openapi.json is held against the table of routes and against what is serialised.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Endpoints;
use crate::server::history;
use crate::server::stats::samples;
use mq_net::http::{Answer, Api, Parameter, StatusCode};

fn document() -> Value {
    serde_json::from_str(include_str!("../../../../docs/openapi.json")).unwrap()
}

/// Place of a parameter, query or header, and its name.
fn place(parameter: &Parameter) -> String {
    format!("{} {}", if parameter.is_header { "header" } else { "query" }, parameter.name)
}

/// Keys of an object.
fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().into_iter().flat_map(|map| map.keys().cloned()).collect()
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let document = document();
    let described: BTreeSet<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| keys(methods).into_iter().map(move |method| format!("{method} {path}")))
        .collect();
    let routes: BTreeSet<_> = Endpoints::ROUTES
        .iter()
        .map(|route| format!("{} {}", route.method.as_str().to_lowercase(), route.path))
        .collect();
    assert_eq!(described, routes);
}

#[test]
fn every_parameter_and_status_is_described_and_nothing_else() {
    let document = document();
    for route in Endpoints::ROUTES {
        let method = route.method.as_str().to_lowercase();
        let name = format!("{method} {}", route.path);
        let described = &document["paths"][route.path][&method];
        let parameters: BTreeSet<_> = described["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|p| {
                let text = |key: &str| p[key].as_str().unwrap().to_owned();
                let required = p["required"].as_bool().unwrap();
                match text("in").as_str() {
                    "query" | "header" => (text("in") + " " + &text("name"), text("description"), required),
                    place => (text("name"), place.to_owned(), required),
                }
            })
            .collect();
        let mut declared: BTreeSet<_> =
            route.parameters.iter().map(|p| (place(p), p.meaning.to_owned(), p.required)).collect();
        if let Some((_, tail)) = route.path.split_once('{') {
            declared.insert((tail.trim_end_matches('}').to_owned(), "path".to_owned(), true));
        }
        assert_eq!(parameters, declared, "{name}");
        let mut statuses: BTreeSet<_> =
            route.statuses.iter().map(|status| status.as_u16().to_string()).collect();
        if !route.statuses.contains(&StatusCode::NOT_IMPLEMENTED) {
            statuses.insert("200".to_owned());
        }
        // What any request may get: no token, no TLS.
        statuses.insert("403".to_owned());
        if route.path != "/ping" {
            statuses.insert("401".to_owned());
        }
        assert_eq!(keys(&described["responses"]), statuses, "{name}");
        let is_public = described["security"] == json!([]);
        assert_eq!(is_public, route.path == "/ping", "{name}");
    }
}

#[test]
fn every_field_is_described_and_nothing_else() {
    let document = document();
    let schema = |name: &str| document["components"]["schemas"][name].clone();
    let answer = |answer: Answer| serde_json::from_slice::<Value>(answer.body()).unwrap();
    let refused = answer(Answer::error(StatusCode::NOT_FOUND, "CODE"));
    let explained = answer(Answer::error_with(StatusCode::NOT_FOUND, "CODE", "why"));
    let (full, bare) = (samples::full(), samples::bare());
    let channel = |stats: &Value| stats["topics"][0]["channels"][0].clone();
    let mut checked = BTreeSet::new();
    for (name, full, bare) in [
        ("Stats", full.clone(), bare.clone()),
        ("Memory", full["memory"].clone(), full["memory"].clone()),
        ("Topic", full["topics"][0].clone(), bare["topics"][0].clone()),
        ("Channel", channel(&full), channel(&bare)),
        ("Client", channel(&full)["clients"][0].clone(), bare["producers"][0].clone()),
        (
            "PubCount",
            full["producers"][0]["pub_counts"][0].clone(),
            full["producers"][0]["pub_counts"][0].clone(),
        ),
        (
            "Latency",
            full["topics"][0]["e2e_processing_latency"].clone(),
            bare["topics"][0]["e2e_processing_latency"].clone(),
        ),
        (
            "Percentile",
            full["topics"][0]["e2e_processing_latency"]["percentiles"][0].clone(),
            full["topics"][0]["e2e_processing_latency"]["percentiles"][0].clone(),
        ),
        ("Info", answer(super::status::sample_info(true)), answer(super::status::sample_info(false))),
        ("TopicConfig", super::topic_config::sample(), super::topic_config::sample()),
        ("ChannelConfig", super::channel_config::sample(), super::channel_config::sample()),
        ("HistoryOverview", history::samples::overview(), history::samples::overview()),
        (
            "HistorySeries",
            history::samples::overview()["series"][0].clone(),
            history::samples::overview()["series"][0].clone(),
        ),
        ("Curve", history::samples::curve(), history::samples::curve()),
        ("Peeked", super::peek::sample(None), super::peek::sample(None)),
        (
            "PeekedMessage",
            super::peek::sample(Some("waiting"))["messages"][0].clone(),
            super::peek::sample(None)["messages"][0].clone(),
        ),
        (
            "PeekedHeader",
            super::peek::sample(None)["messages"][0]["headers"][0].clone(),
            super::peek::sample(None)["messages"][0]["headers"][0].clone(),
        ),
        ("MessageChanged", super::message::sample(), super::message::sample()),
        ("Drain", answer(super::admin::sample_drain()), answer(super::admin::sample_drain())),
        ("Error", explained, refused),
        ("TlsRequired", answer(super::tls_required(1)), answer(super::tls_required(1))),
    ] {
        let schema = schema(name);
        assert_eq!(keys(&full), keys(&schema["properties"]), "properties of {name}");
        let required: BTreeSet<_> = schema["required"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key.as_str().unwrap().to_owned())
            .collect();
        assert_eq!(keys(&bare), required, "what {name} always has");
        for value in [&full, &bare] {
            for (key, value) in value.as_object().unwrap() {
                check_type(&format!("{name}.{key}"), value, &schema["properties"][key]);
            }
        }
        checked.insert(name.to_owned());
    }
    assert_eq!(checked, keys(&document["components"]["schemas"]));
}

fn check_type(name: &str, value: &Value, schema: &Value) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        // A reference is to an object.
        _ => vec!["object"],
    };
    let fits = allowed.contains(&kind) || (kind == "integer" && allowed.contains(&"number"));
    assert!(fits, "{name} is of type {kind}, described as {allowed:?}");
}
