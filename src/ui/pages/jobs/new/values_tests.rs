use serde_json::json;

use super::super::schema::{fields, tests::schema};
use super::*;

fn values(pairs: &[(&str, &str)]) -> Values {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

#[test]
fn what_was_typed_becomes_args() {
    let fields = fields(&schema());
    let mut typed = defaults(&fields);
    assert_eq!(typed.get("format").map(String::as_str), Some("csv"));
    typed.extend(values(&[
        ("limit", "5"),
        ("from", "2026-03-01T10:20"),
        ("reviewed", "false"),
        ("filter.label", "person"),
        ("tags", "[\"a\"]"),
        ("camera_id", "  "),
    ]));
    let args = build(&fields, &typed).expect("args");
    let expected = json!({
        "limit": 5, "from": "2026-03-01T10:20:00Z", "reviewed": false, "filter": {"label": "person"}, "tags": ["a"],
        "format": "csv", "dry_run": false
    });
    assert_eq!(args, expected);
    assert_eq!(build(&fields, &fill(&fields, &args)), Ok(expected));
}

#[test]
fn a_secret_is_taken_as_it_was_typed() {
    let schema = json!({"properties": {
        "password": {"type": ["string", "null"], "maxLength": 50, "x-secret": true},
        "pin": {"type": "integer", "x-secret": true}
    }});
    let fields = fields(&schema);
    let controls: Vec<_> = fields.iter().map(|f| f.control.clone()).collect();
    let (text, other) = (
        Control::Secret {
            max: Some(50),
            json: false,
        },
        Control::Secret { max: None, json: true },
    );
    assert_eq!(controls, [text, other]);
    let typed = values(&[("password", " a b "), ("pin", "4711")]);
    assert_eq!(build(&fields, &typed), Ok(json!({"password": " a b ", "pin": 4711})));
    assert!(build(&fields, &values(&[("pin", "x y")])).is_err());
}

#[test]
fn errors_name_the_field() {
    let fields = fields(&schema());
    let errors = build(&fields, &values(&[("from", "soon"), ("tags", "[")])).expect_err("errors");
    assert_eq!(errors.keys().collect::<Vec<_>>(), ["from", "limit", "tags"]);
}
