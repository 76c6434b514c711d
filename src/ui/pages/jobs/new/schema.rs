//! From a kind's JSON Schema to the fields of a form. Understands what schemars writes for plain Rust structs; whatever
//! else it meets becomes a field for JSON.

use serde_json::{Map, Value};

use crate::domain::kind::label;
use crate::domain::secret::is_marked;

/// References inside references are followed this deep; schemas may be recursive.
const DEPTH_MAX: u32 = 8;
/// Fields of a form at the most; args with more are written as JSON.
const FIELDS_MAX: usize = 200;

/// One field of the form.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// From the args' root, dotted: `filter.camera_id`.
    pub path: String,
    pub title: String,
    pub description: String,
    pub required: bool,
    pub default: Option<Value>,
    pub control: Control,
}

/// How a field is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    Text {
        max: Option<u64>,
    },
    /// The texts of the values, and what people read.
    Choice(Vec<(String, String)>),
    Bool,
    /// Yes, no, or nothing.
    MaybeBool,
    Integer {
        min: Option<i64>,
        max: Option<i64>,
    },
    Number,
    /// In UTC.
    DateTime,
    /// An uploaded file.
    Upload,
    /// What nobody may read; `json`: typed as JSON, since it is no text.
    Secret {
        max: Option<u64>,
        json: bool,
    },
    /// Anything else.
    Json,
    Group(Vec<Field>),
}

/// The fields for a kind's args: those that must be filled in first, groups last. None where a form can't stand for them: they are
/// written as JSON.
pub fn fields(schema: &Value) -> Vec<Field> {
    let mut left = FIELDS_MAX;
    group(schema, schema, "", 0, &mut left).unwrap_or_default()
}

/// Puts `prefix` before every path.
pub fn under(prefix: &str, fields: &mut [Field]) {
    for field in fields {
        field.path = format!("{prefix}.{}", field.path);
        if let Control::Group(inner) = &mut field.control {
            under(prefix, inner);
        }
    }
}

/// Whether there is a field with this path that can show an error.
pub fn has(fields: &[Field], path: &str) -> bool {
    fields.iter().any(|f| match &f.control {
        Control::Group(inner) => has(inner, path),
        _ => f.path == path,
    })
}

/// The path of the field that takes a file.
pub fn upload_path(fields: &[Field]) -> Option<String> {
    fields.iter().find_map(|f| match &f.control {
        Control::Upload => Some(f.path.clone()),
        Control::Group(inner) => upload_path(inner),
        _ => None,
    })
}

/// Whether a file must be sent.
pub fn needs_upload(fields: &[Field]) -> bool {
    fields.iter().any(|f| match &f.control {
        Control::Upload => f.required,
        Control::Group(inner) => needs_upload(inner),
        _ => false,
    })
}

/// `left`: how many fields there may still be; nothing when there are more, or one has a name that no path can hold.
fn group(schema: &Value, root: &Value, prefix: &str, depth: u32, left: &mut usize) -> Option<Vec<Field>> {
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|r| r.iter().any(|v| v.as_str() == Some(name)));
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Some(Vec::new());
    };
    let mut fields = Vec::with_capacity(properties.len().min(*left));
    for (name, property) in properties {
        if name.is_empty() || name.contains('.') {
            return None;
        }
        *left = left.checked_sub(1)?;
        fields.push(field(name, property, root, prefix, is_required(name), depth, left)?);
    }
    fields.sort_by_key(|f| match f.control {
        Control::Group(_) => 2,
        _ if f.required || f.control == Control::Upload => 0,
        _ => 1,
    });
    Some(fields)
}

fn field(
    name: &str,
    property: &Value,
    root: &Value,
    prefix: &str,
    required: bool,
    depth: u32,
    left: &mut usize,
) -> Option<Field> {
    let (schema, nullable) = resolve(property, root, depth);
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
    // A title that came with a reference names the type, not the field.
    let title = property
        .get("title")
        .and_then(Value::as_str)
        .map_or_else(|| label(name), str::to_string);
    let path = if prefix.is_empty() {
        name.to_string()
    } else {
        format!("{prefix}.{name}")
    };
    Some(Field {
        title,
        description: text("description"),
        required,
        default: schema.get("default").filter(|d| !d.is_null()).cloned(),
        control: control(&schema, root, &path, nullable, depth, left)?,
        path,
    })
}

/// None as in [`group`].
fn control(schema: &Value, root: &Value, path: &str, nullable: bool, depth: u32, left: &mut usize) -> Option<Control> {
    if is_marked(schema) {
        return Some(Control::Secret {
            max: schema.get("maxLength").and_then(Value::as_u64),
            json: schema.get("type").and_then(Value::as_str) != Some("string"),
        });
    }
    if let Some(choices) = choices(schema) {
        return Some(Control::Choice(choices));
    }
    let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| schema.get(key).and_then(Value::as_f64);
    Some(match schema.get("type").and_then(Value::as_str) {
        Some("string") if format == "windlass-upload" => Control::Upload,
        Some("string") if format == "date-time" => Control::DateTime,
        Some("string") => Control::Text {
            max: schema.get("maxLength").and_then(Value::as_u64),
        },
        Some("boolean") if nullable => Control::MaybeBool,
        Some("boolean") => Control::Bool,
        Some("integer") => Control::Integer {
            min: number("minimum").map(|n| n as i64),
            max: number("maximum").map(|n| n as i64),
        },
        Some("number") => Control::Number,
        Some("object") if depth < DEPTH_MAX && schema.get("properties").is_some() => {
            Control::Group(group(schema, root, path, depth + 1, left)?)
        }
        _ => Control::Json,
    })
}

/// The schema without references and without "or null", and whether it allows null.
fn resolve(schema: &Value, root: &Value, depth: u32) -> (Value, bool) {
    let mut merged = schema.clone();
    let mut nullable = false;
    for _ in depth..DEPTH_MAX {
        let Some(object) = merged.as_object_mut() else { break };
        if let Some(Value::String(reference)) = object.remove("$ref") {
            let target = reference
                .strip_prefix('#')
                .and_then(|pointer| root.pointer(pointer))
                .cloned();
            merge(object, target);
        } else if let Some(Value::Array(all)) = object.remove("allOf") {
            all.into_iter().for_each(|part| merge(object, Some(part)));
        } else if let Some((rest, had_null)) = without_null(object, "anyOf").or_else(|| without_null(object, "oneOf")) {
            nullable |= had_null;
            merge(object, Some(rest));
        } else {
            break;
        }
    }
    if let Some(Value::Array(types)) = merged.get("type") {
        nullable |= types.iter().any(|t| t.as_str() == Some("null"));
        let rest: Vec<&Value> = types.iter().filter(|t| t.as_str() != Some("null")).collect();
        if let [only] = rest[..] {
            let only = only.clone();
            merged["type"] = only;
        }
    }
    (merged, nullable)
}

/// Takes "this or null" apart; `None` when there are more alternatives than one beside null.
fn without_null(object: &mut Map<String, Value>, key: &str) -> Option<(Value, bool)> {
    let is_null = |v: &Value| v.get("type").and_then(Value::as_str) == Some("null");
    let alternatives = object.get(key)?.as_array()?;
    let mut rest = alternatives.iter().filter(|v| !is_null(v));
    let (one, more) = (rest.next()?.clone(), rest.next());
    if more.is_some() {
        return None;
    }
    let had_null = alternatives.iter().any(is_null);
    object.remove(key);
    Some((one, had_null))
}

/// What stands beside a reference goes before what it refers to.
fn merge(object: &mut Map<String, Value>, from: Option<Value>) {
    if let Some(Value::Object(from)) = from {
        for (key, value) in from {
            object.entry(key).or_insert(value);
        }
    }
}

/// The values of an `enum`, or of a `oneOf` whose parts are constants or enums.
fn choices(schema: &Value) -> Option<Vec<(String, String)>> {
    let named = |v: &Value, description: &str| {
        let value = v.as_str()?.to_string();
        let words = match description.trim_end_matches('.') {
            "" => label(&value),
            words => format!("{value} – {words}"),
        };
        Some((value, words))
    };
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().filter(|v| !v.is_null()).map(|v| named(v, "")).collect();
    }
    let parts = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
    let mut out = Vec::new();
    for part in parts {
        let description = part.get("description").and_then(Value::as_str).unwrap_or_default();
        if let Some(value) = part.get("const") {
            out.push(named(value, description)?);
        } else {
            out.extend(choices(part)?);
        }
    }
    Some(out)
}

#[cfg(test)]
#[path = "schema_tests.rs"]
pub mod tests;
