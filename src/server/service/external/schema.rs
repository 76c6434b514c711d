//! Schemas that workers outside of the binary give for their args. They come from others: one that asks for more than can be
//! kept is refused, and args are checked in time that does not explode with a pattern.

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use crate::domain::error::{Problem, truncate};
use crate::domain::secret::{MARK, marks_any};
use crate::server::secrets::field;

/// The only dialect that is understood.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// Keywords whose schemas are those of fields by name, whose schemas are a list, and whose schema is one.
const BY_NAME: [&str; 4] = ["properties", "patternProperties", "$defs", "dependentSchemas"];
const LISTS: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
const SINGLE: [&str; 7] = [
    "items",
    "additionalProperties",
    "unevaluatedProperties",
    "unevaluatedItems",
    "if",
    "then",
    "else",
];
/// Keywords whose schemas say nothing of a value at a place that is known beforehand.
const ELSEWHERE: [&str; 4] = ["contains", "not", "propertyNames", "contentSchema"];
/// Keywords that lead somewhere else than a place of the schema, or change what places mean.
const LEADING: [&str; 5] = [
    "$dynamicRef",
    "$recursiveRef",
    "$anchor",
    "$dynamicAnchor",
    "$recursiveAnchor",
];
/// Bytes of what is said of args that don't fit.
const DETAIL_MAX: usize = 500;

/// What checks args by the schema, or what is wrong with that.
pub fn compile(schema: &Value) -> Result<Validator, String> {
    let Some(root) = schema.as_object() else {
        return Err("is not an object".into());
    };
    if root.get("type").and_then(Value::as_str) != Some("object") {
        return Err("must have \"type\": \"object\": args are objects".into());
    }
    if let Some(dialect) = root.get("$schema")
        && dialect.as_str().map(|d| d.trim_end_matches('#')) != Some(DIALECT)
    {
        return Err(format!("has a $schema that is not known here; allowed: {DIALECT}"));
    }
    sound(schema, true)?;
    let options = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .should_validate_formats(true)
        // In linear time, whatever the pattern.
        .with_pattern_options(PatternOptions::regex());
    options.build(schema).map_err(|error| {
        let mut detail = format!("is not a JSON Schema: {error}");
        truncate(&mut detail, DETAIL_MAX);
        detail
    })
}

/// Refuses what would keep secrets from being found, or the args from being checked.
fn sound(schema: &Value, root: bool) -> Result<(), String> {
    let Some(keywords) = schema.as_object() else {
        return Ok(());
    };
    let text = |keyword: &str| keywords.get(keyword).and_then(Value::as_str);
    if let Some(target) = text("$ref")
        && (target != "#" && !target.starts_with("#/") || target.contains('%'))
    {
        let mut target = target.to_string();
        truncate(&mut target, 80);
        return Err(format!(
            "has the $ref \"{target}\"; allowed are places within the schema, like #/$defs/size"
        ));
    }
    if let Some(keyword) = LEADING.iter().find(|keyword| keywords.contains_key(**keyword)) {
        return Err(format!("has {keyword}; allowed is $ref with a place within the schema"));
    }
    if !root && text("$id").is_some() {
        return Err("has an $id below its beginning; it is not needed for places within the schema".into());
    }
    if keywords.get(MARK).is_some_and(|mark| !mark.is_boolean()) {
        return Err(format!("has a {MARK} that is neither true nor false"));
    }
    if text("format") == Some("windlass-upload") {
        return Err(
            "has the format windlass-upload: files that are uploaded can't be read by workers outside yet".into(),
        );
    }
    for keyword in ELSEWHERE {
        if let Some(part) = keywords.get(keyword) {
            if marks_any(part) {
                return Err(format!(
                    "has a secret below {keyword}, where it would not be found; mark the field itself"
                ));
            }
            sound(part, false)?;
        }
    }
    let named = BY_NAME.iter().filter_map(|keyword| keywords.get(*keyword)?.as_object());
    let listed = LISTS.iter().filter_map(|keyword| keywords.get(*keyword)?.as_array());
    let parts = named
        .flat_map(|fields| fields.values())
        .chain(listed.flatten())
        .chain(SINGLE.iter().filter_map(|keyword| keywords.get(*keyword)));
    for part in parts {
        sound(part, false)?;
    }
    Ok(())
}

/// The first thing that is wrong with the args. `quiet`: their values are not repeated, since some may be secret.
pub fn check(validator: &Validator, args: &Value, quiet: bool) -> Result<(), Problem> {
    let Some(error) = validator.iter_errors(args).next() else {
        return Ok(());
    };
    let mut field = field(error.instance_path().as_str());
    let mut detail = if quiet {
        error.masked().to_string()
    } else {
        error.to_string()
    };
    if let ValidationErrorKind::Required { property } = error.kind()
        && let Some(name) = property.as_str()
    {
        field = format!("{field}.{name}");
        detail = format!("{field} is missing");
    } else {
        detail = format!("{field}: {detail}");
    }
    truncate(&mut detail, DETAIL_MAX);
    Err(Problem::invalid(field, detail))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn says(schema: &Value) -> String {
        compile(schema).map(|_| ()).expect_err("refused")
    }

    #[test]
    fn args_are_checked_and_what_is_wrong_is_named() {
        let schema = json!({
            "type": "object", "additionalProperties": false, "required": ["url"],
            "properties": {
                "url": { "type": "string", "format": "uri" }, "width": { "type": "integer", "minimum": 1 },
                "sizes": { "type": "array", "items": { "$ref": "#/$defs/size" } }
            },
            "$defs": { "size": { "type": "object", "properties": { "w": { "type": "integer" } } } }
        });
        let validator = compile(&schema).expect("a schema");
        let wrong = |args: Value| check(&validator, &args, false).expect_err("wrong");
        assert_eq!(
            check(&validator, &json!({ "url": "http://a.example/", "width": 3 }), false),
            Ok(())
        );
        let missing = wrong(json!({}));
        assert_eq!(missing.field.as_deref(), Some("args.url"));
        assert_eq!(missing.detail, "args.url is missing");
        let below = wrong(json!({ "url": "http://a.example/", "sizes": [{ "w": 1 }, { "w": "x" }] }));
        assert_eq!(below.field.as_deref(), Some("args.sizes[1].w"));
        assert!(
            below.detail.contains("\"x\"") && below.detail.contains("integer"),
            "{}",
            below.detail
        );
        assert_eq!(
            wrong(json!({ "url": "no address", "width": 1 })).field.as_deref(),
            Some("args.url")
        );
        assert!(
            wrong(json!({ "url": "http://a.example/", "heigth": 3 }))
                .detail
                .contains("heigth")
        );
        let quiet = check(
            &validator,
            &json!({ "url": "http://a.example/", "width": "hunter2" }),
            true,
        );
        assert!(!quiet.expect_err("wrong").detail.contains("hunter2"));
    }

    #[test]
    fn what_can_not_be_kept_is_refused() {
        assert!(says(&json!([])).contains("not an object"));
        assert!(says(&json!({})).contains("type"));
        assert!(says(&json!({ "type": "object", "properties": { "a": { "type": "texty" } } })).contains("JSON Schema"));
        let with = |key: &str, value: Value| json!({ "type": "object", "properties": { "a": { key: value } } });
        for target in [
            "http://a.example/s.json",
            "file:///etc/passwd",
            "other.json",
            "#here",
            "#/$defs/%61",
        ] {
            assert!(says(&with("$ref", json!(target))).contains("$ref"), "{target}");
        }
        assert!(says(&with("$dynamicRef", json!("#a"))).contains("$dynamicRef"));
        assert!(says(&with("$id", json!("http://a.example/s"))).contains("$id"));
        assert!(says(&with("format", json!("windlass-upload"))).contains("uploaded"));
        assert!(says(&with("not", json!({ "x-secret": true }))).contains("secret below not"));
        assert!(
            says(&json!({ "type": "object", "$schema": "http://json-schema.org/draft-07/schema#" }))
                .contains("$schema")
        );
        // Fields may have such names.
        let named =
            json!({ "type": "object", "properties": { "$ref": { "type": "string" }, "not": { "x-secret": true } } });
        assert!(compile(&named).is_ok());
    }

    #[test]
    fn circles_and_costly_patterns_come_to_an_end() {
        for schema in [
            json!({ "type": "object", "$ref": "#" }),
            json!({ "type": "object", "allOf": [{ "$ref": "#" }] }),
            json!({ "type": "object", "properties": { "a": { "$ref": "#" } } }),
            json!({ "type": "object", "properties": { "a": { "$ref": "#/properties/a" } } }),
        ] {
            if let Ok(validator) = compile(&schema) {
                let _ = check(&validator, &json!({ "a": { "a": {} } }), false);
            }
        }
        let costly = json!({ "type": "object", "properties": { "a": { "type": "string", "pattern": "^(a+)+$" } } });
        let validator = compile(&costly).expect("a schema");
        assert!(check(&validator, &json!({ "a": format!("{}!", "a".repeat(5_000)) }), false).is_err());
    }
}
