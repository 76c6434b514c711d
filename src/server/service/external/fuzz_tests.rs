//! Schemas that strangers declare, in all the shapes that nobody thought of.

use serde_json::{Value, json};

use super::schema;
use crate::mutate::Fuzz;
use crate::server::secrets::Places;

/// A value that no answer may repeat.
const HIDDEN: &str = "hunter2";

/// Args with something to hide at each place that a field of the schema could be.
fn args(schema: &Value, deep: usize) -> Value {
    let below = |part: &Value| match deep {
        0 => json!(HIDDEN),
        _ => args(part, deep - 1),
    };
    let Some(fields) = schema.get("properties").and_then(Value::as_object) else {
        return match schema.get("items") {
            Some(item) => json!([below(item), HIDDEN]),
            None => json!(HIDDEN),
        };
    };
    let fields = fields.iter().map(|(name, part)| (name.clone(), below(part)));
    Value::Object(fields.collect())
}

#[test]
fn fuzz_schemas() {
    let seeds = [
        json!({
            "type": "object", "additionalProperties": false, "required": ["url"],
            "properties": {
                "url": { "type": "string", "format": "uri", "minLength": 1 },
                "width": { "type": "integer", "minimum": 1, "multipleOf": 2 },
                "key": { "type": "string", "x-secret": true, "pattern": "^[a-z]+$" },
                "sizes": { "type": "array", "maxItems": 3, "uniqueItems": true, "items": { "$ref": "#/$defs/size" } }
            },
            "$defs": { "size": { "type": "object", "properties": { "w": { "type": "number", "exclusiveMaximum": 9.5 } } } }
        }),
        json!({
            "type": "object", "$schema": "https://json-schema.org/draft/2020-12/schema", "minProperties": 1,
            "allOf": [{ "properties": { "a": { "x-secret": true } } }, { "$ref": "#/$defs/b" }],
            "if": { "properties": { "kind": { "const": "a" } } }, "then": { "required": ["a"] }, "else": { "not": { "required": ["a"] } },
            "$defs": { "b": { "patternProperties": { "^x-": { "enum": [1, "x", null] } }, "dependentRequired": { "a": ["b"] } } }
        }),
        json!({
            "type": "object",
            "properties": { "a": {
                "type": "array", "prefixItems": [{ "type": "string" }], "contains": { "type": "null" },
                "unevaluatedItems": { "oneOf": [{ "type": "boolean" }, { "anyOf": [{ "x-secret": true, "type": "string" }] }] }
            } },
            "unevaluatedProperties": { "x-secret": true }, "propertyNames": { "maxLength": 9 }
        }),
    ];
    let seeds = seeds.map(|schema| schema.to_string());
    let words = [
        "\"type\":\"object\",",
        "\"properties\":{",
        "\"items\":",
        "\"$ref\":\"#\"",
        "\"$ref\":\"#/$defs/size\"",
        "\"$ref\":\"#/properties/a\"",
        "\"$id\":\"http://a/\"",
        "\"$dynamicRef\":\"#a\"",
        "\"x-secret\":true",
        "\"pattern\":\"(a+)+$\"",
        "\"pattern\":\"(?=a)\"",
        "\"pattern\":\"a{1,1000}{1,1000}\"",
        "\"format\":\"regex\"",
        "\"format\":\"date-time\"",
        "\"multipleOf\":0",
        "\"minimum\":-1e400",
        "\"enum\":[",
        "\"allOf\":[{},",
        "\"contentSchema\":",
        "true",
        "{}",
        ",",
    ];
    for case in Fuzz::new("schemas", &seeds, &words) {
        let Ok(schema) = serde_json::from_slice::<Value>(&case) else {
            continue;
        };
        let validator = match schema::compile(&schema) {
            Ok(validator) => validator,
            Err(words) => {
                assert!(!words.is_empty() && words.len() < 1_000, "{words}");
                continue;
            }
        };
        let places = Places::of([schema.clone()]);
        for args in [
            args(&schema, 4),
            json!({}),
            json!({ "a": [null, HIDDEN, true], "x-": HIDDEN }),
        ] {
            if let Some(places) = &places {
                for place in places.find(&args) {
                    assert!(args.pointer(&place).is_some(), "{place} is not in {args}");
                }
            }
            if let Err(problem) = schema::check(&validator, &args, places.is_some()) {
                assert!(problem.field.is_some_and(|field| field.starts_with("args")), "{schema}");
                assert!(problem.detail.len() < 1_000, "{}", problem.detail);
                assert!(
                    places.is_none() || !problem.detail.contains(HIDDEN),
                    "{}",
                    problem.detail
                );
            }
        }
    }
}
