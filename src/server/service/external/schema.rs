//! Schemas that workers outside of the binary give for their args. They come from others: one that asks for more than can be
//! kept is refused, and args are checked in time that does not explode with a pattern.

use std::collections::{HashMap, HashSet};

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Map, Value};

use crate::domain::error::{Problem, truncate};
use crate::domain::secret::{MARK, is_marked};
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
/// Keywords that lead somewhere else than a place of the schema or change what places mean; and those of earlier dialects that are
/// understood all the same.
const REFUSED: [&str; 8] = [
    "$dynamicRef",
    "$recursiveRef",
    "$anchor",
    "$dynamicAnchor",
    "$recursiveAnchor",
    "$vocabulary",
    "dependencies",
    "additionalItems",
];
/// Parts that a schema may come to with what its references lead to, which bounds how long a check takes; how deep they may lie
/// within each other; patterns, and the bytes that one may take when it is compiled.
const PARTS_MAX: usize = 5_000;
const DEPTH_MAX: usize = 64;
const PATTERNS_MAX: usize = 20;
const PATTERN_MAX: usize = 60_000;
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
    sound(schema)?;
    let options = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .should_validate_formats(true)
        // In linear time, whatever the pattern.
        .with_pattern_options(
            PatternOptions::regex()
                .size_limit(PATTERN_MAX)
                .dfa_size_limit(PATTERN_MAX),
        );
    options.build(schema).map_err(|error| {
        let mut detail = format!("is not a JSON Schema: {error}");
        truncate(&mut detail, DETAIL_MAX);
        detail
    })
}

/// A walk through a schema by all ways that lead to a value, references included.
struct Walk<'s> {
    root: &'s Value,
    /// What each part comes to with all that it leads to: how many parts, and how deep they lie.
    sizes: HashMap<*const Value, (usize, usize)>,
    /// Where it is, from the beginning.
    path: Vec<*const Value>,
    patterns: usize,
}

/// Refuses what would keep secrets from being found, or the args from being checked: in a time that can be foreseen.
fn sound(schema: &Value) -> Result<(), String> {
    let mut walk = Walk {
        root: schema,
        sizes: HashMap::new(),
        path: Vec::new(),
        patterns: 0,
    };
    walk.step(schema)?;
    if walk.patterns > PATTERNS_MAX {
        return Err(format!(
            "has {} patterns; allowed: at most {PATTERNS_MAX}",
            walk.patterns
        ));
    }
    let mut found = HashSet::new();
    reach(schema, schema, &mut found);
    if marks(schema) > found.iter().filter(|part| is_marked(part.0)).count() {
        return Err(format!(
            "has {MARK} in a place where no value is looked at; mark the field itself"
        ));
    }
    Ok(())
}

/// A part of a schema, by where it lies.
#[derive(Clone, Copy)]
struct Part<'s>(&'s Value);

impl PartialEq for Part<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for Part<'_> {}

impl std::hash::Hash for Part<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::ptr::from_ref(self.0).hash(state);
    }
}

/// All parts at which secrets are looked for (`Places`), from one on.
fn reach<'s>(root: &'s Value, part: &'s Value, found: &mut HashSet<Part<'s>>) {
    let mut ahead = vec![part];
    while let Some(part) = ahead.pop() {
        let Some(keywords) = part.as_object() else { continue };
        if found.insert(Part(part)) {
            let named = BY_NAME.iter().filter(|keyword| **keyword != "$defs");
            let named = named.filter_map(|keyword| keywords.get(*keyword)?.as_object());
            ahead.extend(named.flat_map(|fields| fields.values()));
            ahead.extend(listed(keywords));
            ahead.extend(SINGLE.iter().filter_map(|keyword| keywords.get(*keyword)));
            ahead.extend(target(root, keywords));
        }
    }
}

fn listed(keywords: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    let lists = LISTS.iter().filter_map(|keyword| keywords.get(*keyword)?.as_array());
    lists.flatten()
}

/// What a part refers to.
fn target<'s>(root: &'s Value, keywords: &Map<String, Value>) -> Option<&'s Value> {
    let pointer = keywords.get("$ref")?.as_str()?.strip_prefix('#')?;
    root.pointer(pointer)
}

/// How often a schema, its parts and whatever else is in it have the mark of a secret.
fn marks(schema: &Value) -> usize {
    match schema {
        Value::Object(fields) => usize::from(is_marked(schema)) + fields.values().map(marks).sum::<usize>(),
        Value::Array(items) => items.iter().map(marks).sum(),
        _ => 0,
    }
}

impl<'s> Walk<'s> {
    /// What this part comes to: how many parts, and how deep.
    fn step(&mut self, schema: &'s Value) -> Result<(usize, usize), String> {
        let Some(keywords) = schema.as_object() else {
            return Ok((1, 1));
        };
        let at = std::ptr::from_ref(schema);
        if self.path.contains(&at) {
            return Err(
                "has a $ref that leads back to where it stands; allowed are schemas that come to an end".into(),
            );
        }
        let deep = || {
            Err(format!(
                "is more than {DEPTH_MAX} parts deep, with what its references lead to"
            ))
        };
        if let Some((parts, height)) = self.sizes.get(&at) {
            return match self.path.len() + height <= DEPTH_MAX {
                true => Ok((*parts, *height)),
                false => deep(),
            };
        }
        if self.path.len() >= DEPTH_MAX {
            return deep();
        }
        self.words(keywords)?;
        let named = BY_NAME.iter().filter_map(|keyword| keywords.get(*keyword)?.as_object());
        let mut next: Vec<&Value> = named.flat_map(|fields| fields.values()).collect();
        next.extend(listed(keywords));
        let single = SINGLE.iter().chain(&ELSEWHERE);
        next.extend(single.filter_map(|keyword| keywords.get(*keyword)));
        if let Some(name) = keywords.get("$ref").and_then(Value::as_str) {
            let found = target(self.root, keywords);
            next.push(found.ok_or_else(|| format!("has a $ref to {}, which is not there", short(name)))?);
        }
        self.path.push(at);
        let (mut parts, mut height) = (1_usize, 1);
        for part in next {
            let (more, below) = self.step(part)?;
            parts += more;
            height = height.max(below + 1);
            if parts > PARTS_MAX {
                return Err(format!(
                    "comes to more than {PARTS_MAX} parts, with what its references lead to"
                ));
            }
        }
        self.path.pop();
        self.sizes.insert(at, (parts, height));
        Ok((parts, height))
    }

    /// What a part says by itself.
    fn words(&mut self, keywords: &'s Map<String, Value>) -> Result<(), String> {
        let text = |keyword: &str| keywords.get(keyword).and_then(Value::as_str);
        if let Some(target) = text("$ref")
            && (target != "#" && !target.starts_with("#/") || target.contains('%'))
        {
            return Err(format!(
                "has the $ref \"{}\"; allowed are places within the schema, like #/$defs/size",
                short(target)
            ));
        }
        if let Some(keyword) = REFUSED.iter().find(|keyword| keywords.contains_key(**keyword)) {
            return Err(format!(
                "has {keyword}; allowed are the keywords of JSON Schema 2020-12, and $ref with a place within the schema"
            ));
        }
        let below = ["$id", "id", "$schema"]
            .into_iter()
            .find(|keyword| text(keyword).is_some());
        if let Some(keyword) = below.filter(|_| !self.path.is_empty()) {
            return Err(format!(
                "has {keyword} below its beginning, where places would mean something else"
            ));
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
            let mut found = HashSet::new();
            if let Some(part) = keywords.get(keyword) {
                reach(self.root, part, &mut found);
            }
            if found.iter().any(|part| is_marked(part.0)) {
                return Err(format!(
                    "has a secret below {keyword}, where it would not be found; mark the field itself"
                ));
            }
        }
        let by_name = keywords.get("patternProperties").and_then(Value::as_object);
        self.patterns += by_name.map_or(0, Map::len) + usize::from(keywords.contains_key("pattern"));
        Ok(())
    }
}

fn short(text: &str) -> String {
    let mut text = text.to_string();
    truncate(&mut text, 80);
    text
}

/// The first thing that is wrong with the args. `quiet`: their values are not repeated, since some may be secret.
pub fn check(validator: &Validator, args: &Value, quiet: bool) -> Result<(), Problem> {
    let Err(error) = validator.validate(args) else {
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
        assert!(says(&with("$schema", json!("http://json-schema.org/draft-04/schema#"))).contains("$schema below"));
        assert!(says(&with("dependencies", json!({ "a": {} }))).contains("dependencies"));
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
    fn what_libraries_write_is_taken() {
        let pydantic = json!({
            "$defs": {
                "Fit": { "enum": ["cover", "contain"], "title": "Fit", "type": "string" },
                "Size": {
                    "properties": { "w": { "exclusiveMinimum": 0, "title": "W", "type": "integer" } },
                    "required": ["w"], "title": "Size", "type": "object"
                }
            },
            "properties": {
                "fit": { "$ref": "#/$defs/Fit", "default": "cover" },
                "size": { "anyOf": [{ "$ref": "#/$defs/Size" }, { "type": "null" }], "default": null },
                "id": { "format": "uuid", "title": "Id", "type": "string" },
                "tags": { "items": { "type": "string" }, "title": "Tags", "type": "array", "uniqueItems": true },
                "kind": { "const": "a", "title": "Kind", "type": "string" }
            },
            "required": ["id"], "title": "Args", "type": "object", "additionalProperties": false
        });
        let validator = compile(&pydantic).expect("a schema");
        let args = json!({ "id": "01a22a50-f50a-75e3-b84e-83382f5bd49a", "size": { "w": 1 }, "tags": ["a", "b"] });
        assert_eq!(check(&validator, &args, false), Ok(()));
        let wrong = check(
            &validator,
            &json!({ "id": "01a22a50-f50a-75e3-b84e-83382f5bd49a", "size": { "w": 0 } }),
            false,
        );
        assert!(wrong.is_err());
        let schemars = schemars::schema_for!(crate::domain::bulk::BulkPart).to_value();
        assert!(compile(&schemars).is_ok(), "{schemars}");
    }

    #[test]
    fn what_would_take_for_ever_is_refused() {
        for schema in [
            json!({ "type": "object", "$ref": "#" }),
            json!({ "type": "object", "allOf": [{ "$ref": "#" }] }),
            json!({ "type": "object", "properties": { "a": { "$ref": "#" } } }),
            json!({ "type": "object", "properties": { "a": { "allOf": [{ "$ref": "#" }, { "$ref": "#" }] } } }),
            json!({ "type": "object", "properties": { "a": { "$ref": "#/properties/a" } } }),
            json!({ "type": "object", "$ref": "#/odd", "odd": { "items": { "$ref": "#" } } }),
        ] {
            assert!(says(&schema).contains("leads back"), "{schema}");
        }
        // Each level twice what the one below it is.
        let levels = 20;
        let mut defs = Map::new();
        for level in 0..levels {
            let next = json!({ "$ref": format!("#/$defs/l{}", level + 1) });
            defs.insert(format!("l{level}"), json!({ "allOf": [next, next] }));
        }
        defs.insert(format!("l{levels}"), json!({}));
        let bomb = json!({ "type": "object", "$ref": "#/$defs/l0", "$defs": defs });
        assert!(says(&bomb).contains("comes to more than"));
        // Ten chains of twenty, each of which begins where the one before ends.
        let mut defs = Map::new();
        for n in 0..10 {
            let mut chain = match n {
                0 => json!({}),
                n => json!({ "$ref": format!("#/$defs/c{}", n - 1) }),
            };
            for _ in 0..20 {
                chain = json!({ "items": chain });
            }
            defs.insert(format!("c{n}"), chain);
        }
        assert!(says(&json!({ "type": "object", "$defs": defs })).contains("deep"));
        let mut deep = json!({});
        for _ in 0..DEPTH_MAX {
            deep = json!({ "not": deep });
        }
        assert!(says(&json!({ "type": "object", "properties": { "a": deep } })).contains("deep"));
        let many: Map<String, Value> = (0..=PATTERNS_MAX)
            .map(|n| (format!("p{n}"), json!({ "pattern": "a" })))
            .collect();
        assert!(says(&json!({ "type": "object", "properties": many })).contains("patterns"));
        let large = json!({ "type": "object", "properties": { "a": { "pattern": "\\p{L}{3000}" } } });
        assert!(says(&large).contains("JSON Schema"));
        let costly = json!({ "type": "object", "properties": { "a": { "type": "string", "pattern": "^(a+)+$" } } });
        let validator = compile(&costly).expect("a schema");
        assert!(check(&validator, &json!({ "a": format!("{}!", "a".repeat(5_000)) }), false).is_err());
    }

    #[test]
    fn a_secret_that_would_not_be_found_is_refused() {
        let secret = json!({ "x-secret": true });
        for schema in [
            json!({ "type": "object", "properties": { "a": { "default": secret } } }),
            json!({ "type": "object", "odd": { "deep": [secret] } }),
        ] {
            assert!(says(&schema).contains("x-secret"), "{schema}");
        }
        let below = json!({ "type": "object", "properties": { "a": { "$ref": "#/odd" } }, "odd": { "not": secret } });
        assert!(says(&below).contains("secret below not"));
        let by_reference = json!({
            "type": "object", "$defs": { "s": secret }, "properties": {
                "list": { "type": "array", "contains": { "$ref": "#/$defs/s" } }, "one": { "$ref": "#/$defs/s" }
            }
        });
        assert!(says(&by_reference).contains("secret below contains"));
        assert!(says(&json!({ "type": "object", "$defs": { "s": secret } })).contains("x-secret"));
        let found = json!({ "type": "object", "properties": { "a": { "$ref": "#/odd" } }, "odd": secret });
        assert!(compile(&found).is_ok());
    }
}
