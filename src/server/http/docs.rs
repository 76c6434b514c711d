//! `/api/docs`: the API's document as a page for people. Plain HTML without script, made once at the start.

use serde_json::Value;
use utoipa::openapi::OpenApi;

/// Its style is a file of the site.
pub const POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page.
pub fn page(document: &OpenApi) -> String {
    // A document that was made from code is always JSON.
    let document = serde_json::to_value(document).unwrap_or_default();
    let mut html = format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>API · Windlass</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><link rel=\"stylesheet\" href=\"/api-docs.css\"></head><body><h1>Windlass API</h1>\
         <p>{} The machine-readable form: <a href=\"/api/openapi.json\">openapi.json</a>.</p>",
        escape(&text(&document["info"]["description"]))
    );
    for tag in document["tags"].as_array().into_iter().flatten() {
        let tag = text(&tag["name"]);
        html.push_str(&format!("<h2>{}</h2>", escape(&tag)));
        for (path, methods) in document["paths"].as_object().into_iter().flatten() {
            for (method, call) in methods.as_object().into_iter().flatten() {
                if call["tags"][0] == tag {
                    html.push_str(&operation(path, method, call));
                }
            }
        }
    }
    html.push_str("</body></html>");
    html
}

fn operation(path: &str, method: &str, call: &Value) -> String {
    let mut html = format!(
        "<section><h3><b>{}</b> <code>{}</code></h3><p>{} {}</p>",
        escape(&method.to_uppercase()),
        escape(path),
        escape(&text(&call["summary"])),
        escape(&text(&call["description"]))
    );
    let parameters = call["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !parameters.is_empty() {
        html.push_str("<table><thead><tr><th>Parameter</th><th>In</th><th>Meaning</th></tr></thead><tbody>");
        for p in parameters {
            let (name, place, meaning) = (text(&p["name"]), text(&p["in"]), text(&p["description"]));
            let row = [escape(&name), escape(&place), escape(&meaning)];
            html.push_str(&format!(
                "<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
                row[0], row[1], row[2]
            ));
        }
        html.push_str("</tbody></table>");
    }
    let body = call["requestBody"]["content"].as_object();
    if let Some(media) = body.and_then(|content| content.keys().next()) {
        let about = text(&call["requestBody"]["description"]);
        html.push_str(&format!(
            "<p>Body: <code>{}</code> {}</p>",
            escape(media),
            escape(&about)
        ));
    }
    let answers: Vec<String> = call["responses"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(s, _)| escape(s))
        .collect();
    html.push_str(&format!("<p>Answers: {}</p></section>", answers.join(", ")));
    html
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

/// Text as it stands in HTML, within an attribute too.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
