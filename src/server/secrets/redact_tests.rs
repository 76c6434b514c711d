use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::error::ErrorCode;

#[test]
fn what_looks_like_a_secret_is_left_out() {
    let redactor = Redactor::default();
    let token = format!("windlass_{}", "0123456789abcdef".repeat(4));
    let own = format!("made {token} for you");
    let pem = "key:\n-----BEGIN RSA PRIVATE KEY-----\nMIIB\nxyz=\n-----END RSA PRIVATE KEY-----\nafter";
    let cut = "-----BEGIN PRIVATE KEY-----\nMIIBVwIBADAN…";
    for (text, expected) in [
        ("password=hunter2 next", "password=•••••• next"),
        ("Password: hunter2", "Password: ••••••"),
        ("DB_PASSWORD='a b' x", "DB_PASSWORD=•••••• x"),
        (
            r#"{"password":"a \"b\" c","user":"u"}"#,
            r#"{"password":••••••,"user":"u"}"#,
        ),
        (
            r#"body {\"password\":\"a b\",\"user\":1}"#,
            r#"body {\"password\":••••••,\"user\":1}"#,
        ),
        (
            r#"Login { password: Some("a b"), n: 1 }"#,
            "Login { password: Some(••••••), n: 1 }",
        ),
        ("?api_key=abc&user=me", "?api_key=••••••&user=me"),
        ("client_secret => xyz", "client_secret => ••••••"),
        ("access-token=abc", "access-token=••••••"),
        ("AWS_SECRET_ACCESS_KEY=abc/def+g", "AWS_SECRET_ACCESS_KEY=••••••"),
        ("run --password hunter2 --now", "run --password •••••• --now"),
        ("run --db-token 'a b' x", "run --db-token •••••• x"),
        (
            "Authorization: Basic dXNlcjpwYXNz\nHost: a",
            "Authorization: ••••••\nHost: a",
        ),
        (
            r#"{"authorization": "Digest u=a, r=b"}"#,
            r#"{"authorization": "••••••"}"#,
        ),
        (
            "curl -H 'Authorization: Bearer abc' url",
            "curl -H 'Authorization: ••••••' url",
        ),
        ("got bearer eyJhbGciOi.J9-_x== here", "got bearer •••••• here"),
        (own.as_str(), "made •••••• for you"),
        (pem, "key:\n••••••\nafter"),
        (cut, "••••••"),
        ("postgres://me:s3cr3t@db:5432/jobs", "postgres://me:••••••@db:5432/jobs"),
        ("redis://:p@ss@cache/1, next", "redis://:••••••@cache/1, next"),
    ] {
        let shown = redactor.text(text);
        assert_eq!(shown, expected, "{text}");
        assert_eq!(redactor.text(&shown), expected, "once more: {text}");
    }
}

#[test]
fn what_does_not_is_left_as_it_is() {
    let redactor = Redactor::default();
    for text in [
        "row 17 of a.csv was passed over",
        "the password was refused",
        "bearer authentication is needed",
        "unexpected token: foo",
        "pass=12 fail=0",
        "see http://127.0.0.1:3000/jobs?x=a@b",
        "mail me@example.org at 10:30",
        "windlass_attempts_ended_total 5",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "",
    ] {
        assert!(matches!(redactor.text(text), Cow::Borrowed(_)), "{text}");
    }
}

#[test]
fn the_settings_patterns_are_added_and_checked() {
    let redactor = Redactor::new(r" cust-[0-9]+  \bpin\s(\d{4})\b ").expect("patterns");
    assert_eq!(
        redactor.text("cust-123 has pin 4711, password=x"),
        "•••••• has pin ••••••, password=••••••"
    );
    let many = "x ".repeat(EXTRA_MAX + 1);
    let long = "x".repeat(EXTRA_BYTES_MAX + 1);
    for (bad, why) in [
        ("(", "can't be read"),
        ("a*", "empty text"),
        (r"\w{1000}{1000}", "too large"),
        (&many, "at most 50"),
        (&long, "at most 1000"),
    ] {
        let refused = Redactor::new(bad).expect_err(bad);
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn the_values_of_an_attempts_secrets_turn_up_nowhere() {
    let pem = "-----X-----\nabcdefghij\nshort\n-----Y-----";
    let secrets = json!({ "a": "hun\"ter 2", "pin": 4711, "short": "abc", "key": pem, "part": "hun\"ter" });
    let veil = Veil::new(&Redactor::default(), [&secrets]);
    for (text, expected) in [
        ("it is hun\"ter 2.", "it is ••••••."),
        (r#"as JSON: "hun\"ter 2""#, r#"as JSON: "••••••""#),
        ("in a URL: hun%22ter%202", "in a URL: ••••••"),
        ("pin 4711 and abc", "pin •••••• and abc"),
        ("line abcdefghij alone, short too", "line •••••• alone, short too"),
        ("cut: hun\"te…", "cut: ••••••…"),
        ("cut: hun…", "cut: hun…"),
        ("password=x", "password=••••••"),
    ] {
        assert_eq!(veil.text(text.to_string()), expected, "{text}");
    }
    let result = json!({ "hun\"ter 2": [4711, "pin 4711", 1, null, true], "password": "password=x" });
    let shown = json!({ MASK: [MASK, format!("pin {MASK}"), 1, null, true], "password": "password=x" });
    assert_eq!(veil.result(result), shown);
    let error = JobError::new(ErrorCode::AuthError, "no: hun\"ter 2").with_stack("0: hun\"ter 2".into());
    let shown = veil.error(error);
    assert_eq!(
        (shown.message.as_str(), shown.stack.as_deref()),
        ("no: ••••••", Some("0: ••••••"))
    );
    assert_eq!((shown.code, shown.retryable), (ErrorCode::AuthError, false));
}

#[test]
fn an_error_stays_within_its_bounds() {
    let veil = Veil::new(&Redactor::default(), [&json!("four")]);
    let error = JobError::new(ErrorCode::Internal, "four".repeat(500)).with_stack("four".repeat(4_000));
    let shown = veil.error(error);
    assert!(shown.message.len() <= JobError::MESSAGE_MAX);
    assert!(shown.stack.is_some_and(|stack| stack.len() <= JobError::STACK_MAX));
}

#[test]
fn tokens_that_this_server_makes_are_known() {
    let prefix = crate::server::service::identity::TOKEN_PREFIX;
    let text = format!("{prefix}{}", "0f".repeat(32));
    assert_eq!(Redactor::default().text(&text), MASK);
}

proptest! {
    #[test]
    fn no_text_gives_trouble_and_no_secret_stays(before in ".{0,40}", secret in "[!-~]{4,30}", after in ".{0,40}") {
        let value = json!(secret);
        let veil = Veil::new(&Redactor::default(), [&value]);
        let shown = veil.text(format!("{before}{secret}{after}"));
        prop_assert!(!shown.contains(&secret));
        prop_assert_eq!(veil.text(shown.clone()), shown);
    }
}
