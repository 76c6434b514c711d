use proptest::prelude::*;

use super::*;

fn key(seed: u8) -> SecretKey {
    let text: String = (0..32u8)
        .map(|i| format!("{:02x}", i.wrapping_mul(37) ^ seed))
        .collect();
    SecretKey::parse(&text).expect("a key")
}

fn secrets(current: u8, old: &[u8]) -> Secrets {
    let old: Vec<SecretKey> = old.iter().map(|seed| key(*seed)).collect();
    Secrets::new(Some(&key(current)), &old, None, Redactor::default()).expect("secrets")
}

fn places() -> Places {
    let schema = json!({
        "properties": {
            "password": { "x-secret": true },
            "targets": { "items": { "properties": { "token": { "x-secret": true } } } },
        }
    });
    Places::of([schema]).expect("places")
}

fn sealed_args(with: &Secrets, args: &Value) -> Value {
    let mut args = args.clone();
    with.seal("login", Some(&places()), Vec::new(), &mut args)
        .expect("sealed");
    args
}

/// JSON values of a few levels.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z/~]{1,5}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_sealed_opens_as_it_was_and_is_readable_nowhere(
        secret in values(),
        text in "[a-zA-Z0-9]{12,40}",
        plain in values(),
    ) {
        let with = secrets(1, &[]);
        let args = json!({ "password": secret, "plain": plain, "targets": [{ "token": text, "host": "a" }] });
        let mut stored = sealed_args(&with, &args);
        prop_assert!(!stored.to_string().contains(&text));
        prop_assert!(sealed(&stored["password"]).is_some());
        prop_assert_eq!(&stored["plain"], &args["plain"]);
        let mut shown = stored.clone();
        mask(Some(&places()), &mut shown);
        prop_assert_eq!((&shown["password"], &shown["targets"][0]["token"]), (&json!(MASK), &json!(MASK)));
        // What comes back as it was shown keeps its secrets.
        let masked = shown.clone();
        restore(&mut shown, &masked, &args);
        prop_assert_eq!(&shown, &args);
        let pointers = with.open("login", &mut stored).expect("opened");
        prop_assert_eq!(pointers, ["/password", "/targets/0/token"]);
        prop_assert_eq!(stored, args);
    }

    #[test]
    fn no_text_in_a_secrets_place_makes_trouble_or_opens(text in ".{0,120}") {
        let with = secrets(1, &[]);
        for text in [text.clone(), format!("v1.{text}"), format!("v1.{}.{text}", "00000000")] {
            let mut args = json!({ "password": { "$secret": text } });
            let opened = with.open("login", &mut args);
            prop_assert!(opened.is_err());
        }
    }
}

#[test]
fn a_ciphertext_that_is_moved_or_changed_does_not_open() {
    let with = secrets(1, &[]);
    let stored = sealed_args(
        &with,
        &json!({ "password": "hunter2", "targets": [{ "token": "a" }, { "token": "b" }] }),
    );
    let refused = |kind: &str, mut args: Value| {
        let error = with.open(kind, &mut args).expect_err("refused");
        assert!(matches!(error.source, SecretError::Refused), "{error}");
        error.field
    };
    assert_eq!(refused("other", stored.clone()), "args.password");
    let mut moved = stored.clone();
    moved["targets"][0]["token"] = stored["targets"][1]["token"].clone();
    assert_eq!(refused("login", moved), "args.targets[0].token");
    let mut elsewhere = stored.clone();
    elsewhere["shown"] = stored["password"].clone();
    assert_eq!(refused("login", elsewhere), "args.shown");
    let mut text = sealed(&stored["password"]).expect("text").to_string();
    let at = text.len() - 10;
    let other = if &text[at..=at] == "A" { "B" } else { "A" };
    text.replace_range(at..=at, other);
    refused("login", json!({ "password": { "$secret": text } }));
}

#[test]
fn two_of_the_same_secret_look_different() {
    let with = secrets(1, &[]);
    let args = json!({ "password": "hunter2" });
    assert_ne!(sealed_args(&with, &args), sealed_args(&with, &args));
}

#[test]
fn keys_can_be_changed_and_a_wrong_one_says_which_is_missing() {
    let args = json!({ "password": "hunter2" });
    let stored = sealed_args(&secrets(1, &[]), &args);
    let mut opened = stored.clone();
    let changed = secrets(2, &[1]);
    changed.open("login", &mut opened).expect("opened with the old key");
    assert_eq!(opened, args);
    let mut again = sealed_args(&changed, &args);
    assert!(
        secrets(1, &[]).open("login", &mut again).is_err(),
        "new secrets take the new key"
    );
    let error = secrets(2, &[]).open("login", &mut stored.clone()).expect_err("no key");
    let id = sealed(&stored["password"])
        .and_then(|text| text.split('.').nth(1))
        .expect("id");
    assert!(
        error.to_string().contains(id) && error.to_string().contains("SECRET_KEY_OLD"),
        "{error}"
    );
}

#[test]
fn null_is_no_secret_and_what_was_sealed_stays_so_where_the_schema_has_changed() {
    let with = secrets(1, &[]);
    assert_eq!(
        sealed_args(&with, &json!({ "password": null })),
        json!({ "password": null })
    );
    let mut args = json!({ "once": "a secret", "gone": null });
    with.seal(
        "login",
        None,
        vec!["/once".into(), "/gone".into(), "/missing".into()],
        &mut args,
    )
    .expect("sealed");
    assert!(sealed(&args["once"]).is_some() && args["gone"].is_null());
    mask(None, &mut args);
    assert_eq!(args["once"], MASK);
    // And what was stored before the schema marked it is masked all the same.
    let mut args = json!({ "password": "from before" });
    mask(Some(&places()), &mut args);
    assert_eq!(args["password"], MASK);
}

#[test]
fn an_item_of_a_list_never_gets_anothers_secret() {
    let open = json!([{ "host": "a", "token": "1" }, { "host": "b", "token": "2" }]);
    let masked = json!([{ "host": "a", "token": MASK }, { "host": "b", "token": MASK }]);
    let restored = |given: Value| {
        let mut given = given;
        restore(&mut given, &masked, &open);
        given
    };
    assert_eq!(restored(masked.clone()), open);
    // The first one was taken out.
    assert_eq!(
        restored(json!([{ "host": "b", "token": MASK }])),
        json!([{ "host": "b", "token": "2" }])
    );
    // They changed places.
    let turned = restored(json!([{ "host": "b", "token": MASK }, { "host": "a", "token": MASK }]));
    assert_eq!(
        turned,
        json!([{ "host": "b", "token": "2" }, { "host": "a", "token": "1" }])
    );
    // Another host is not sent the first one's secret.
    assert_eq!(restored(json!([{ "host": "c", "token": MASK }]))[0]["token"], MASK);
    let mut bare = json!([MASK]);
    restore(&mut bare, &json!([MASK, MASK]), &json!(["1", "2"]));
    assert_eq!(bare, json!([MASK]), "whose it is can't be told");
}
