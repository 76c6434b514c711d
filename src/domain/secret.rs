//! Args that nobody may read: how a kind's schema marks them, how they lie in the database, and what is shown in their place.

use serde_json::Value;

/// What every output shows in place of a secret, however long that is. Args that come back with it keep the secret that they
/// had.
pub const MASK: &str = "••••••";

/// The keyword of a schema that makes a field's value a secret: `"x-secret": true`.
pub const MARK: &str = "x-secret";

/// The only key of the object that stands for an encrypted value: `{"$secret": "v1.…"}`. Callers may not send it.
pub const SEALED: &str = "$secret";

/// The text of an encrypted value, when `value` is one.
pub fn sealed(value: &Value) -> Option<&str> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    object.get(SEALED)?.as_str()
}

/// Whether a schema marks what it describes as a secret.
pub fn is_marked(schema: &Value) -> bool {
    schema.get(MARK) == Some(&Value::Bool(true))
}

/// Whether any part of a schema is marked as a secret.
pub fn marks_any(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => is_marked(schema) || fields.values().any(marks_any),
        Value::Array(items) => items.iter().any(marks_any),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_object_with_that_one_key_stands_for_a_secret() {
        assert_eq!(sealed(&json!({ "$secret": "v1.a.b" })), Some("v1.a.b"));
        for other in [
            json!({ "$secret": 1 }),
            json!({ "$secret": "v1", "more": 1 }),
            json!("$secret"),
            json!({}),
        ] {
            assert_eq!(sealed(&other), None, "{other}");
        }
        assert!(is_marked(&json!({ "x-secret": true })));
        assert!(!is_marked(&json!({ "x-secret": "no" })));
    }
}
