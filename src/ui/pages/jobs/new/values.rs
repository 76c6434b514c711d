//! What is typed into a form's fields, and the args that it stands for.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::schema::{Control, Field};
use crate::domain::time::{Timestamp, from_input, to_input};

/// What was typed or chosen, by the field's path; absent or empty means nothing.
pub type Values = BTreeMap<String, String>;

/// What is wrong, by the field's path.
pub type Errors = BTreeMap<String, String>;

/// What the form starts with: the schema's defaults.
pub fn defaults(fields: &[Field]) -> Values {
    let mut values = Values::new();
    for field in fields {
        match (&field.control, &field.default) {
            (Control::Group(inner), _) => values.extend(defaults(inner)),
            (_, Some(default)) => {
                values.insert(field.path.clone(), typed(&field.control, default));
            }
            _ => {}
        }
    }
    values
}

/// `args` as they would have been typed.
pub fn fill(fields: &[Field], args: &Value) -> Values {
    let mut values = Values::new();
    for field in fields {
        let name = field.path.rsplit('.').next().unwrap_or_default();
        let Some(value) = args.get(name).filter(|v| !v.is_null()) else {
            continue;
        };
        match &field.control {
            Control::Group(inner) => values.extend(fill(inner, value)),
            control => {
                values.insert(field.path.clone(), typed(control, value));
            }
        }
    }
    values
}

fn typed(control: &Control, value: &Value) -> String {
    match (control, value) {
        (Control::DateTime, Value::String(text)) => text.parse::<Timestamp>().map_or_else(|_| text.clone(), to_input),
        (Control::Json | Control::Secret { json: true, .. }, value) => value.to_string(),
        (_, Value::String(text)) => text.clone(),
        (_, value) => value.to_string(),
    }
}

/// The args that `values` stand for, or what is wrong with which field. Files are not part of them.
pub fn build(fields: &[Field], values: &Values) -> Result<Value, Errors> {
    let mut errors = Errors::new();
    let args = object(fields, values, &mut errors);
    if errors.is_empty() {
        Ok(Value::Object(args))
    } else {
        Err(errors)
    }
}

fn object(fields: &[Field], values: &Values, errors: &mut Errors) -> Map<String, Value> {
    let mut out = Map::new();
    for field in fields {
        let name = field.path.rsplit('.').next().unwrap_or_default().to_string();
        if let Control::Group(inner) = &field.control {
            let inner = object(inner, values, errors);
            if field.required || !inner.is_empty() {
                out.insert(name, Value::Object(inner));
            }
            continue;
        }
        let text = values.get(&field.path).map_or("", |v| match field.control {
            // A password may begin or end with a space.
            Control::Secret { .. } => v,
            _ => v.trim(),
        });
        if text.is_empty() {
            if field.required && !matches!(field.control, Control::Upload | Control::Bool) {
                errors.insert(field.path.clone(), "This is needed.".into());
            } else if field.required && field.control == Control::Bool {
                out.insert(name, Value::Bool(false));
            }
            continue;
        }
        match parsed(&field.control, text) {
            Ok(Some(value)) => {
                out.insert(name, value);
            }
            Ok(None) => {}
            Err(why) => {
                errors.insert(field.path.clone(), why);
            }
        }
    }
    out
}

fn parsed(control: &Control, text: &str) -> Result<Option<Value>, String> {
    Ok(Some(match control {
        Control::Upload | Control::Group(_) => return Ok(None),
        Control::Text { .. } | Control::Secret { json: false, .. } | Control::Choice(_) => text.into(),
        Control::Bool | Control::MaybeBool => (text == "true").into(),
        Control::Integer { .. } => text
            .parse::<i64>()
            .map_err(|_| "This must be a whole number.".to_string())?
            .into(),
        Control::Number => text
            .parse::<f64>()
            .map_err(|_| "This must be a number.".to_string())?
            .into(),
        Control::DateTime => utc(text).ok_or("This must be a date and a time.")?.into(),
        Control::Json | Control::Secret { .. } => {
            serde_json::from_str(text).map_err(|e| format!("This is not JSON: {e}."))?
        }
    }))
}

/// What a date-and-time field holds, taken as UTC, in RFC 3339.
pub fn utc(text: &str) -> Option<String> {
    Some(format!("{}Z", to_input(from_input(text)?)))
}

#[cfg(test)]
#[path = "values_tests.rs"]
mod tests;
