//! Where args hold secrets: a kind's JSON Schema, walked beside a value.

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

use crate::domain::secret::{is_marked, marks_any, sealed};

/// The schemas of a kind that has secrets in its args.
#[derive(Clone, Debug)]
pub struct Places {
    schemas: Vec<Value>,
}

impl Places {
    /// Of the schemas that describe the same args (as they are read and as they are written); none: nothing in them is marked
    /// as a secret.
    pub fn of(schemas: impl IntoIterator<Item = Value>) -> Option<Self> {
        let schemas: Vec<Value> = schemas.into_iter().filter(marks_any).collect();
        (!schemas.is_empty()).then_some(Self { schemas })
    }

    /// JSON pointers to the secrets in `args`: values that are there and not null. None lies within another.
    pub fn find(&self, args: &Value) -> Vec<String> {
        let mut found = BTreeSet::new();
        for root in &self.schemas {
            let mut walk = Walk {
                root,
                seen: HashSet::new(),
                found: &mut found,
            };
            walk.step(root, args, "");
        }
        outermost(found)
    }
}

/// Pointers to the encrypted values in `args`, whatever a schema says.
pub fn find_sealed(args: &Value) -> Vec<String> {
    fn walk(value: &Value, pointer: &str, found: &mut Vec<String>) {
        if sealed(value).is_some() {
            found.push(pointer.to_string());
            return;
        }
        each_part(value, pointer, |part, pointer| walk(part, pointer, found));
    }
    let mut found = Vec::new();
    // Most args have none: names of places are made only when they are needed.
    if any(args, &|value| sealed(value).is_some()) {
        walk(args, "", &mut found);
    }
    found
}

/// The first place in `args` at which `is` holds, as a pointer.
pub fn position(args: &Value, is: &impl Fn(&Value) -> bool) -> Option<String> {
    fn walk(value: &Value, pointer: &str, is: &impl Fn(&Value) -> bool) -> Option<String> {
        if is(value) {
            return Some(pointer.to_string());
        }
        let mut found = None;
        each_part(value, pointer, |part, pointer| {
            if found.is_none() {
                found = walk(part, pointer, is);
            }
        });
        found
    }
    any(args, is).then(|| walk(args, "", is)).flatten()
}

/// Whether `is` holds of the value or of a part of it.
fn any(value: &Value, is: &impl Fn(&Value) -> bool) -> bool {
    is(value)
        || match value {
            Value::Object(fields) => fields.values().any(|part| any(part, is)),
            Value::Array(items) => items.iter().any(|part| any(part, is)),
            _ => false,
        }
}

/// Both lists in one, without what lies within another.
pub fn together(one: Vec<String>, other: Vec<String>) -> Vec<String> {
    outermost(one.into_iter().chain(other).collect())
}

fn outermost(pointers: BTreeSet<String>) -> Vec<String> {
    let within = |pointer: &str| {
        let mut above = pointer;
        while let Some((before, _)) = above.rsplit_once('/') {
            if pointers.contains(before) {
                return true;
            }
            above = before;
        }
        false
    };
    pointers.iter().filter(|pointer| !within(pointer)).cloned().collect()
}

/// A pointer as errors name fields: `args.targets[0].password`.
pub fn field(pointer: &str) -> String {
    let mut name = "args".to_string();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        match part.parse::<usize>() {
            Ok(_) => name.push_str(&format!("[{part}]")),
            Err(_) => {
                name.push('.');
                name.push_str(&part);
            }
        }
    }
    name
}

fn each_part(value: &Value, pointer: &str, mut f: impl FnMut(&Value, &str)) {
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, part)| f(part, &format!("{pointer}/{}", escaped(name)))),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(i, part)| f(part, &format!("{pointer}/{i}"))),
        _ => {}
    }
}

/// A name as a JSON pointer (RFC 6901) has it.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

struct Walk<'s> {
    root: &'s Value,
    /// What was looked at: a part of the schema, by its address, with a place. Schemas refer to themselves.
    seen: HashSet<(*const Value, String)>,
    found: &'s mut BTreeSet<String>,
}

impl<'s> Walk<'s> {
    /// Every branch of a choice is followed: which one a value takes is not worth a mistake, and to encrypt too much does no
    /// harm.
    fn step(&mut self, schema: &'s Value, value: &Value, pointer: &str) {
        if value.is_null() || !self.seen.insert((std::ptr::from_ref(schema), pointer.to_string())) {
            return;
        }
        if is_marked(schema) {
            self.found.insert(pointer.to_string());
            return;
        }
        let Some(keywords) = schema.as_object() else { return };
        if let Some(target) = keywords.get("$ref").and_then(Value::as_str)
            && let Some(target) = target.strip_prefix('#').and_then(|p| self.root.pointer(p))
        {
            self.step(target, value, pointer);
        }
        for keyword in ["allOf", "anyOf", "oneOf"] {
            let branches = keywords.get(keyword).and_then(Value::as_array);
            branches
                .into_iter()
                .flatten()
                .for_each(|b| self.step(b, value, pointer));
        }
        for keyword in ["if", "then", "else"] {
            if let Some(branch) = keywords.get(keyword) {
                self.step(branch, value, pointer);
            }
        }
        match value {
            Value::Object(fields) => self.fields(keywords, value, fields, pointer),
            Value::Array(items) => self.items(keywords, items, pointer),
            _ => {}
        }
    }

    fn fields(
        &mut self,
        keywords: &'s serde_json::Map<String, Value>,
        value: &Value,
        fields: &serde_json::Map<String, Value>,
        pointer: &str,
    ) {
        let group = |name: &str| keywords.get(name).and_then(Value::as_object);
        for (name, part) in fields {
            let pointer = format!("{pointer}/{}", escaped(name));
            let named = group("properties").and_then(|p| p.get(name));
            if let Some(schema) = named {
                self.step(schema, part, &pointer);
            }
            for schema in group("patternProperties").into_iter().flat_map(|p| p.values()) {
                self.step(schema, part, &pointer);
            }
            for rest in ["additionalProperties", "unevaluatedProperties"] {
                if let Some(schema) = keywords.get(rest).filter(|_| named.is_none()) {
                    self.step(schema, part, &pointer);
                }
            }
        }
        for schema in group("dependentSchemas").into_iter().flat_map(|d| d.values()) {
            self.step(schema, value, pointer);
        }
    }

    fn items(&mut self, keywords: &'s serde_json::Map<String, Value>, items: &[Value], pointer: &str) {
        let first = keywords.get("prefixItems").and_then(Value::as_array);
        for (i, part) in items.iter().enumerate() {
            let pointer = format!("{pointer}/{i}");
            let own = first.and_then(|first| first.get(i));
            for schema in [own, keywords.get("items"), keywords.get("unevaluatedItems")]
                .into_iter()
                .flatten()
            {
                self.step(schema, part, &pointer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn find(schema: Value, args: &Value) -> Vec<String> {
        Places::of([schema]).map(|places| places.find(args)).unwrap_or_default()
    }

    #[test]
    fn secrets_are_found_in_fields_groups_items_and_choices() {
        let schema = json!({
            "type": "object",
            "properties": {
                "password": { "type": ["string", "null"], "x-secret": true },
                "plain": { "type": "string" },
                "inner": { "$ref": "#/$defs/Inner" },
                "list": { "type": "array", "items": { "$ref": "#/$defs/Inner" } },
                "pair": { "prefixItems": [{ "type": "string" }, { "x-secret": true }] },
                "by_name": { "additionalProperties": { "x-secret": true } },
                "either": { "anyOf": [{ "$ref": "#/$defs/Inner" }, { "type": "null" }] },
            },
            "$defs": { "Inner": { "type": "object", "properties": {
                "a/b": { "x-secret": true }, "again": { "$ref": "#/$defs/Inner" }
            } } }
        });
        let args = json!({
            "password": "x", "plain": "y",
            "inner": { "a/b": 1, "again": { "a/b": 2 } },
            "list": [{ "a/b": 1 }, { "other": 2 }],
            "pair": ["a", "b"],
            "by_name": { "k": "v", "~": "w" },
            "either": { "a/b": { "deep": true } },
        });
        let expected = [
            "/by_name/k",
            "/by_name/~0",
            "/either/a~1b",
            "/inner/again/a~1b",
            "/inner/a~1b",
            "/list/0/a~1b",
            "/pair/1",
            "/password",
        ];
        assert_eq!(find(schema.clone(), &args), expected);
        assert!(expected.iter().all(|p| args.pointer(p).is_some()));
        assert!(find(schema, &json!({ "password": null, "either": null })).is_empty());
    }

    #[test]
    fn a_kind_without_secrets_has_no_places_and_circles_end() {
        assert!(Places::of([json!({ "properties": { "a": { "type": "string" } } })]).is_none());
        let circle = json!({
            "anyOf": [{ "$ref": "#" }, { "allOf": [{ "$ref": "#" }] }],
            "properties": { "a": { "$ref": "#" }, "s": { "x-secret": true } }
        });
        assert_eq!(find(circle, &json!({ "a": { "a": { "s": 1 } } })), ["/a/a/s"]);
    }

    #[test]
    fn what_lies_within_a_secret_is_part_of_it() {
        let both = together(vec!["/a".into(), "/b/c".into()], vec!["/a/x/y".into(), "/ab".into()]);
        assert_eq!(both, ["/a", "/ab", "/b/c"]);
        assert_eq!(find_sealed(&json!({ "a": [{ "$secret": "v1" }, 2] })), ["/a/0"]);
        assert_eq!(field("/a~1b/0/c"), "args.a/b[0].c");
        assert_eq!(field(""), "args");
    }
}
