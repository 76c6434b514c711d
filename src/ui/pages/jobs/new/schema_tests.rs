use serde_json::json;

use super::*;

pub fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "camera_id": {"title": "Camera", "description": "Only this one.", "type": ["string", "null"], "maxLength": 100},
            "risk_level": {"anyOf": [{"$ref": "#/$defs/RiskLevel"}, {"type": "null"}]},
            "from": {"type": ["string", "null"], "format": "date-time"},
            "reviewed": {"type": ["boolean", "null"]},
            "dry_run": {"type": "boolean", "default": false},
            "limit": {"type": "integer", "minimum": 1},
            "format": {"$ref": "#/$defs/Format", "default": "csv"},
            "file": {"type": "string", "format": "windlass-upload"},
            "filter": {"$ref": "#/$defs/Filter"},
            "tags": {"type": "array", "items": {"type": "string"}}
        },
        "required": ["limit", "file"],
        "$defs": {
            "RiskLevel": {"title": "RiskLevel", "type": "string", "enum": ["low", "high"]},
            "Format": {"oneOf": [
                {"description": "Comma-separated.", "type": "string", "const": "csv"},
                {"type": "string", "enum": ["json"]}
            ]},
            "Filter": {"type": "object", "properties": {"label": {"type": "string"}, "again": {"$ref": "#/$defs/Filter"}}}
        }
    })
}

fn find<'a>(fields: &'a [Field], path: &str) -> &'a Field {
    fields
        .iter()
        .find(|f| f.path == path)
        .unwrap_or_else(|| panic!("no field {path}"))
}

#[test]
fn every_shape_becomes_its_control() {
    let fields = fields(&schema());
    let control = |path| find(&fields, path).control.clone();
    assert_eq!(control("camera_id"), Control::Text { max: Some(100) });
    assert_eq!(find(&fields, "camera_id").title, "Camera");
    assert_eq!(
        control("risk_level"),
        Control::Choice(vec![("low".into(), "Low".into()), ("high".into(), "High".into())])
    );
    assert_eq!(find(&fields, "risk_level").title, "Risk level");
    assert_eq!(control("from"), Control::DateTime);
    assert_eq!(control("reviewed"), Control::MaybeBool);
    assert_eq!(control("dry_run"), Control::Bool);
    assert_eq!(
        control("limit"),
        Control::Integer {
            min: Some(1),
            max: None
        }
    );
    let format = vec![
        ("csv".into(), "csv – Comma-separated".into()),
        ("json".into(), "Json".into()),
    ];
    assert_eq!(control("format"), Control::Choice(format));
    assert_eq!(control("file"), Control::Upload);
    assert_eq!(control("tags"), Control::Json);
    assert_eq!(upload_path(&fields).as_deref(), Some("file"));
    let Control::Group(inner) = control("filter") else {
        panic!("filter is no group")
    };
    assert_eq!(find(&inner, "filter.label").control, Control::Text { max: None });
    // Needed ones first, groups last.
    assert_eq!(fields.iter().take(2).filter(|f| f.required).count(), 2);
    assert_eq!(fields.last().map(|f| f.path.as_str()), Some("filter"));
}

#[test]
fn hostile_schemas_end() {
    let circle = json!({"properties": {"a": {"$ref": "#/properties/a"}, "b": {"allOf": [{"$ref": "#"}]}, "c": 5}});
    assert_eq!(fields(&circle).len(), 3);
    assert!(fields(&json!(null)).is_empty());
}

#[test]
fn what_no_form_can_stand_for_is_written_as_json() {
    let text = json!({ "type": "string" });
    assert!(fields(&json!({ "properties": { "a.b": text, "c": text } })).is_empty());
    let many: serde_json::Map<String, Value> = (0..=FIELDS_MAX).map(|n| (format!("f{n}"), text.clone())).collect();
    assert!(fields(&json!({ "properties": many })).is_empty());
    // Ten fields, each of which has ten that have ten again.
    let mut inner = text;
    for _ in 0..DEPTH_MAX {
        let ten: serde_json::Map<String, Value> = (0..10)
            .map(|n| (format!("f{n}"), json!({ "$ref": "#/$defs/x" })))
            .collect();
        inner = json!({ "type": "object", "properties": ten });
    }
    assert!(fields(&json!({ "properties": { "a": inner }, "$defs": { "x": inner } })).is_empty());
}
