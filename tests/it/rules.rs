//! The rules of the house, checked against the source: which part may use which (docs/ARCHITECTURE.md), no conditional
//! compilation in what both targets share, files of a readable size, settings that are documented in every place.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use config::{Config, File, FileFormat};

/// A part of the tree, and what it may use besides itself. The first entry whose path fits a module is that module's.
struct Part {
    path: &'static str,
    may_use: &'static [&'static str],
}

const PARTS: &[Part] = &[
    Part {
        path: "domain",
        may_use: &[],
    },
    Part {
        path: "browser",
        may_use: &["domain"],
    },
    Part {
        path: "ui",
        may_use: &["domain", "rpc", "browser"],
    },
    // And `server::http::rpc` in the bodies of server functions: see `allowed`.
    Part {
        path: "rpc",
        may_use: &["domain"],
    },
    Part {
        path: "server::secrets",
        may_use: &["domain"],
    },
    Part {
        path: "server::config",
        may_use: &["domain", "server::secrets"],
    },
    Part {
        path: "server::telemetry",
        may_use: &["domain", "server::config", "server::secrets"],
    },
    Part {
        path: "server::store",
        may_use: &["domain", "server::config"],
    },
    Part {
        path: "server::queue",
        may_use: &["domain", "server::config"],
    },
    Part {
        path: "server::service",
        may_use: &[
            "domain",
            "server::config",
            "server::secrets",
            "server::store",
            "server::queue",
        ],
    },
    Part {
        path: "server::engine",
        may_use: &[
            "domain",
            "server::config",
            "server::secrets",
            "server::store",
            "server::queue",
            "server::service",
        ],
    },
    // What the engine hands to kinds, and the types that its context gives out.
    Part {
        path: "server::kinds",
        may_use: &[
            "domain",
            "server::config",
            "server::engine::kind",
            "server::engine::context",
            "server::store::events",
            "server::store::files",
            "server::store::StoreError",
        ],
    },
    Part {
        path: "server::openid",
        may_use: &["server::config"],
    },
    // And `ui`, to mount it: see `allowed`.
    Part {
        path: "server::http",
        may_use: &[
            "domain",
            "server::config",
            "server::openid",
            "server::service",
            "server::telemetry",
        ],
    },
    Part {
        path: "server::cli",
        may_use: &["domain", "server"],
    },
    // The wiring: modules of `server` itself, `lib.rs` and `main.rs`.
    Part {
        path: "server",
        may_use: &["domain", "server"],
    },
    Part {
        path: "",
        may_use: &[""],
    },
];

/// The files of `server::http` that may name the pages, since they mount them.
const MOUNT: [&str; 2] = ["src/server/http/page.rs", "src/server/http/router.rs"];

#[test]
fn every_module_uses_only_what_it_may() {
    let mut breaches = Vec::new();
    let files = sources();
    assert!(files.len() > 20, "the source was not found");
    for (name, text) in &files {
        breaches.extend(breaches_in(name, text));
    }
    assert!(
        breaches.is_empty(),
        "{} breaches:\n{}",
        breaches.len(),
        breaches.join("\n")
    );
}

#[test]
fn shared_code_is_the_same_on_both_targets() {
    let mut found = Vec::new();
    for (name, text) in sources() {
        if name.starts_with("src/ui/") || name.starts_with("src/domain/") {
            found.extend(
                feature_switches(&text)
                    .into_iter()
                    .map(|line| format!("{name}:{line}: cfg(feature …)")),
            );
        }
    }
    assert!(
        found.is_empty(),
        "only lib.rs may choose by feature:\n{}",
        found.join("\n")
    );
}

#[test]
fn files_stay_readable() {
    let long: Vec<_> = sources()
        .iter()
        .filter(|(name, _)| !name.ends_with("_tests.rs"))
        .map(|(name, text)| (name, lines_without_tests(text)))
        .filter(|(_, lines)| *lines > 500)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "over 500 lines:\n{}", long.join("\n"));
}

#[test]
fn the_build_and_the_server_agree_about_the_site() {
    let of = |file: &str| table(file, "package.metadata.leptos");
    let (build, server) = (of("Cargo.toml"), of("Leptos.toml"));
    assert!(!server.is_empty());
    for (key, value) in server {
        assert_eq!(
            build.get(&key),
            Some(&value),
            "{key} differs between Cargo.toml and Leptos.toml"
        );
    }
}

#[test]
fn every_setting_is_documented_with_its_default() {
    // As the server reads it: people copy it to .env.
    let text = read(".env.example");
    let example: BTreeMap<String, String> = dotenvy::from_read_iter(text.as_bytes())
        .map(|item| item.expect("NAME=value"))
        .collect();
    let defaults: BTreeMap<String, String> = table("Leptos.toml", "windlass")
        .into_iter()
        .map(|(name, value)| (name.to_uppercase(), value))
        .collect();
    assert!(!defaults.is_empty());
    assert_eq!(example, defaults, ".env.example (left) and Leptos.toml (right) differ");
}

/// docs/SECURITY.md says of each promise which tests hold it.
#[test]
fn every_test_that_a_promise_names_is_there() {
    let (text, sources) = (read("docs/SECURITY.md"), sources());
    let mut missing = Vec::new();
    let mut named = 0;
    // Every other piece stands between two backticks.
    for name in text.split('`').skip(1).step_by(2).filter(|name| name.contains("::")) {
        let parts: Vec<&str> = name.split("::").collect();
        let (Some(function), [first, second, ..]) = (parts.last(), parts.as_slice()) else {
            continue;
        };
        if *function == "name" || *function == "…" {
            continue;
        }
        named += 1;
        let is = format!("fn {function}(");
        let found = match parts.len() {
            2 => read(&format!("tests/it/{first}.rs")).contains(&is),
            _ => sources
                .iter()
                .any(|(file, text)| file.starts_with(&format!("src/{first}/{second}")) && text.contains(&is)),
        };
        if !found {
            missing.push(name);
        }
    }
    assert!(named > 30, "{named} tests are named");
    assert!(
        missing.is_empty(),
        "docs/SECURITY.md names tests that are not there: {missing:?}"
    );
}

#[test]
fn the_checker_sees_breaches() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "src/ui/app.rs",
            "use crate::server::store::Store;",
            &["server::store::Store"],
        ),
        (
            "src/ui/app.rs",
            "use crate::{domain::job::Job, server::{self, http}};",
            &["server", "server::http"],
        ),
        (
            "src/ui/app.rs",
            "use crate::domain::job::Job; use crate::rpc; use crate::browser::now;",
            &[],
        ),
        (
            "src/ui/pages/jobs/list.rs",
            "fn f() { super::super::super::super::server::cli::run() }",
            &["server::cli::run"],
        ),
        (
            "src/ui/app.rs",
            "// use crate::server::store;\nconst A: &str = \"crate::server::store::x\";",
            &[],
        ),
        (
            "src/ui/app.rs",
            "const A: &str = r#\"\"; crate::server::x \"#; fn f<'a>(c: char) -> bool { c == '\"' }",
            &[],
        ),
        ("src/domain/job.rs", "use crate::rpc::list_jobs;", &["rpc::list_jobs"]),
        (
            "src/domain/job.rs",
            "use super::error::JobError; use crate::domain::kind::Policy;",
            &[],
        ),
        ("src/domain/job.rs", "use crate::*;", &[""]),
        (
            "src/server/http/rest/jobs.rs",
            "use crate::server::store::Store as S;",
            &["server::store::Store"],
        ),
        (
            "src/server/http/rest/jobs.rs",
            "use super::super::super::store;",
            &["server::store"],
        ),
        (
            "src/server/http/rest/jobs.rs",
            "use crate::server::service::Service; use super::super::state;",
            &[],
        ),
        ("src/server/http/router.rs", "use crate::ui::app::App;", &[]),
        ("src/server/http/sse.rs", "use crate::ui::app::App;", &["ui::app::App"]),
        (
            "src/server/store/mod.rs",
            "use crate::server::http::Error; use crate::server::config::Config;",
            &["server::http::Error"],
        ),
        (
            "src/server/kinds/export.rs",
            "use crate::server::engine::context::Context;",
            &[],
        ),
        (
            "src/server/kinds/export.rs",
            "use crate::server::engine::executor; use crate::server::store::Store;",
            &["server::engine::executor", "server::store::Store"],
        ),
        (
            "src/rpc/jobs.rs",
            "use crate::server::http::rpc::caller;",
            &["server::http::rpc::caller"],
        ),
        (
            "src/rpc/jobs.rs",
            "#[server(prefix = \"/rpc\")]\npub async fn a() -> R { let x = crate::server::http::rpc::caller()?; { x } }\nfn b() { crate::server::http::rpc::caller(); }",
            &["server::http::rpc::caller"],
        ),
        (
            "src/rpc/jobs.rs",
            "#[server]\nasync fn a() -> R { crate::server::store::open() }",
            &["server::store::open"],
        ),
        (
            "src/domain/job.rs",
            "mod inner { use super::super::rpc; use super::super::super::rpc; }",
            &["rpc"],
        ),
        (
            "src/domain/job.rs",
            "#[cfg(test)]\nmod tests { use crate::server::store::Store; }",
            &[],
        ),
        (
            "src/domain/job.rs",
            "pub(in crate::server) fn f() { for x in crate::rpc::y() {} }",
            &["rpc::y"],
        ),
        ("src/main.rs", "fn main() { windlass::server::cli::main() }", &[]),
        (
            "src/ui/app.rs",
            "fn f() { windlass::server::cli::main() }",
            &["server::cli::main"],
        ),
    ];
    for (file, text, expected) in cases {
        let found: Vec<_> = references(file, text)
            .into_iter()
            .filter(|r| !allowed(file, r))
            .map(|r| r.to)
            .collect();
        assert_eq!(found, *expected, "{file}: {text}");
    }

    let switches = "#[cfg_attr(feature = \"ssr\", derive(A))]\n#[cfg(test)]\n#[cfg(all(unix, feature = \"x\"))]\nfn f() { if cfg!(feature = \"ssr\") {} }\n// cfg(feature\n";
    assert_eq!(feature_switches(switches), [3, 4]);
    assert_eq!(lines_without_tests("fn a() {}\n\n#[cfg(test)]\nmod tests {\n}\n"), 2);
    assert_eq!(lines_without_tests("#[cfg(test)]\nuse x;\nfn a() {}\n"), 3);
}

// ---- reading

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// Every Rust file under `src`, with its path from the root.
fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a readable folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    walk(&root().join("src"), &mut paths);
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let name = path
                .strip_prefix(root())
                .expect("inside")
                .to_string_lossy()
                .replace('\\', "/");
            let text = fs::read_to_string(&path).expect("UTF-8");
            (name, text)
        })
        .collect()
}

/// A table of a TOML file, its values as text.
fn table(file: &str, name: &str) -> BTreeMap<String, String> {
    Config::builder()
        .add_source(File::from_str(&read(file), FileFormat::Toml))
        .build()
        .and_then(|c| c.get_table(name))
        .unwrap_or_else(|e| panic!("{file}: {e}"))
        .into_iter()
        .map(|(key, value)| (key, value.to_string()))
        .collect()
}

fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<_> = text.lines().collect();
    lines
        .windows(2)
        .position(|w| w[0] == "#[cfg(test)]" && (w[1].starts_with("mod ") || w[1].starts_with("#[path")))
        .unwrap_or(lines.len())
}

// ---- judging

/// A path within the crate that a file names.
#[derive(Debug)]
struct Reference {
    line: usize,
    /// The module that names it, `ui::app`.
    from: String,
    /// What it names, `server::store::Store`; empty for the crate itself.
    to: String,
    /// Named in the body of a server function.
    in_server_body: bool,
}

fn breaches_in(file: &str, text: &str) -> Vec<String> {
    if file.ends_with("_tests.rs") {
        return Vec::new();
    }
    references(file, text)
        .into_iter()
        .filter(|r| !allowed(file, r))
        .map(|r| {
            let part = part_of(&r.from);
            format!(
                "{file}:{}: {} may not use crate::{}; besides itself it may use: {}",
                r.line,
                part.path,
                r.to,
                part.may_use.join(", ")
            )
        })
        .collect()
}

/// Whether `path` is `prefix` or lies within it.
fn within(path: &str, prefix: &str) -> bool {
    prefix.is_empty() || path == prefix || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with("::"))
}

fn part_of(module: &str) -> &'static Part {
    PARTS
        .iter()
        .find(|p| within(module, p.path))
        .expect("the last part fits all")
}

fn allowed(file: &str, reference: &Reference) -> bool {
    let part = part_of(&reference.from);
    within(&reference.to, part.path)
        || part.may_use.iter().any(|p| within(&reference.to, p))
        || (MOUNT.contains(&file) && within(&reference.to, "ui"))
        || (part.path == "rpc" && reference.in_server_body && within(&reference.to, "server::http::rpc"))
}

// ---- a reader of just enough Rust

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    /// `::`
    Sep,
    Mark(char),
    Literal,
}

/// The lines of `cfg(…)` and `cfg!(…)` that name a feature.
fn feature_switches(text: &str) -> Vec<usize> {
    let tokens = tokens(text);
    let mut lines = Vec::new();
    for (i, (token, line)) in tokens.iter().enumerate() {
        let open = match tokens.get(i + 1) {
            Some((Token::Mark('!'), _)) => i + 2,
            _ => i + 1,
        };
        if *token != Token::Word("cfg".into()) || !matches!(tokens.get(open), Some((Token::Mark('('), _))) {
            continue;
        }
        let mut depth = 0;
        for (inner, _) in &tokens[open..] {
            match inner {
                Token::Mark('(') => depth += 1,
                Token::Mark(')') => depth -= 1,
                Token::Word(w) if w == "feature" => {
                    lines.push(*line);
                    break;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    lines
}

/// Every path into the crate that the file names outside its tests.
fn references(file: &str, text: &str) -> Vec<Reference> {
    /// What a pair of braces encloses.
    enum Scope {
        Module(String),
        Tests,
        ServerBody,
        Other,
    }
    let tokens = tokens(text);
    let word = |i: usize| match tokens.get(i) {
        Some((Token::Word(w), _)) => w.as_str(),
        _ => "",
    };
    let is = |i: usize, token: &Token| tokens.get(i).is_some_and(|(t, _)| t == token);
    let before = |i: usize, n: usize, token: &Token| i >= n && is(i - n, token);
    // What follows `in` in `pub(in …)` says who may use and not what is used.
    let scope_of_pub = |i| before(i, 1, &Token::Word("in".into())) && before(i, 2, &Token::Mark('('));
    let begins_path = |i: usize| is(i + 1, &Token::Sep) && !before(i, 1, &Token::Sep) && !scope_of_pub(i);
    let mut scopes: Vec<Scope> = Vec::new();
    let mut next_scope = None;
    let mut server_function = false;
    let mut found = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let line = tokens[i].1;
        match &tokens[i].0 {
            Token::Mark('#') if word(i + 2) == "server" => server_function = true,
            Token::Mark('#') if word(i + 2) == "cfg" && word(i + 4) == "test" => next_scope = Some(Scope::Tests),
            Token::Mark('{') => scopes.push(next_scope.take().unwrap_or(if std::mem::take(&mut server_function) {
                Scope::ServerBody
            } else {
                Scope::Other
            })),
            Token::Mark('}') => {
                scopes.pop();
            }
            Token::Mark(';') => next_scope = None,
            Token::Word(w) if w == "mod" && is(i + 2, &Token::Mark('{')) && next_scope.is_none() => {
                next_scope = Some(Scope::Module(word(i + 1).into()));
            }
            Token::Word(w) => {
                let mut paths = Vec::new();
                let after = if w == "use" {
                    use_tree(&tokens, i + 1, &[], &mut paths)
                } else if begins_path(i) {
                    path(&tokens, i, &mut paths)
                } else {
                    i + 1
                };
                if !scopes.iter().any(|s| matches!(s, Scope::Tests)) {
                    let mut module = module_of(file);
                    module.extend(scopes.iter().filter_map(|s| match s {
                        Scope::Module(name) => Some(name.clone()),
                        _ => None,
                    }));
                    let in_server_body = scopes.iter().any(|s| matches!(s, Scope::ServerBody));
                    found.extend(paths.iter().filter_map(|p| resolve(&module, p)).map(|to| Reference {
                        line,
                        from: module.join("::"),
                        to,
                        in_server_body,
                    }));
                }
                i = after;
                continue;
            }
            _ => {}
        }
        i += 1;
    }
    found
}

/// `src/server/store/mod.rs` holds the module `server::store`.
fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs");
    let mut parts: Vec<_> = path.split('/').map(String::from).collect();
    // The two faces of one module, chosen in lib.rs.
    if ["lib", "main", "browser/real", "browser/server"].contains(&path) || parts.last().is_some_and(|p| p == "mod") {
        parts.pop();
    }
    parts
}

/// Where a path leads that begins in `module`; nothing when it leads out of the crate, or to what is beside it by name.
fn resolve(module: &[String], path: &[String]) -> Option<String> {
    let mut at = match path.first()?.as_str() {
        "crate" | "windlass" => Vec::new(),
        "self" => module.to_vec(),
        "super" => {
            let mut at = module.to_vec();
            at.pop();
            at
        }
        _ => return None,
    };
    for part in &path[1..] {
        match part.as_str() {
            "super" => {
                at.pop();
            }
            "self" | "*" => {}
            name => at.push(name.into()),
        }
    }
    Some(at.join("::"))
}

/// Reads `a::b::c` from `i` on; returns where it ends.
fn path(tokens: &[(Token, usize)], mut i: usize, out: &mut Vec<Vec<String>>) -> usize {
    let mut parts = Vec::new();
    while let Some((Token::Word(w), _)) = tokens.get(i) {
        parts.push(w.clone());
        i += 1;
        if !matches!(tokens.get(i), Some((Token::Sep, _))) {
            break;
        }
        i += 1;
    }
    out.push(parts);
    i
}

/// Reads `a::{b, c::*, d as e}` from `i` on, in full paths; returns where it ends.
fn use_tree(tokens: &[(Token, usize)], mut i: usize, before: &[String], out: &mut Vec<Vec<String>>) -> usize {
    let mut parts = before.to_vec();
    loop {
        match tokens.get(i).map(|t| &t.0) {
            Some(Token::Word(w)) if w == "as" => i += 2,
            Some(Token::Word(w)) => {
                parts.push(w.clone());
                i += 1;
            }
            Some(Token::Mark('*')) => {
                parts.push("*".into());
                i += 1;
            }
            Some(Token::Sep) => i += 1,
            Some(Token::Mark('{')) => {
                i += 1;
                while !matches!(tokens.get(i).map(|t| &t.0), Some(Token::Mark('}')) | None) {
                    i = use_tree(tokens, i, &parts, out);
                    if matches!(tokens.get(i).map(|t| &t.0), Some(Token::Mark(','))) {
                        i += 1;
                    }
                }
                return i + 1;
            }
            _ => {
                out.push(parts);
                return i;
            }
        }
    }
}

/// The text's words and marks with their lines, without comments and what is inside literals.
fn tokens(text: &str) -> Vec<(Token, usize)> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = Vec::new();
    let mut line = 1;
    let mut i = 0;
    while i < chars.len() {
        let start = i;
        let token = match chars[i] {
            c if c.is_whitespace() => {
                i += 1;
                None
            }
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && chars[i] != '\n' {
                    i += 1;
                }
                None
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= chars.len() {
                        break;
                    }
                }
                None
            }
            'r' | 'b' | 'c' if raw_hashes(&chars, i).is_some() => {
                let (hashes, quote) = raw_hashes(&chars, i).unwrap_or_default();
                i = quote + 1;
                while i < chars.len() && !(chars[i] == '"' && (1..=hashes).all(|h| at(i + h) == '#')) {
                    i += 1;
                }
                i += 1 + hashes;
                Some(Token::Literal)
            }
            '"' => {
                i += 1;
                while i < chars.len() && chars[i] != '"' {
                    i += if chars[i] == '\\' { 2 } else { 1 };
                }
                i += 1;
                Some(Token::Literal)
            }
            // A character, or else a lifetime.
            '\'' if at(i + 1) == '\\' || at(i + 2) == '\'' => {
                i += if at(i + 1) == '\\' { 3 } else { 2 };
                while i < chars.len() && chars[i] != '\'' {
                    i += 1;
                }
                i += 1;
                Some(Token::Literal)
            }
            ':' if at(i + 1) == ':' => {
                i += 2;
                Some(Token::Sep)
            }
            c if is_word(c) => {
                while is_word(at(i)) {
                    i += 1;
                }
                Some(Token::Word(chars[start..i].iter().collect()))
            }
            c => {
                i += 1;
                Some(Token::Mark(c))
            }
        };
        let end = i.min(chars.len());
        if let Some(token) = token {
            out.push((token, line));
        }
        line += chars[start..end].iter().filter(|c| **c == '\n').count();
    }
    out
}

/// For `r"`, `br#"`, `cr##"`: how many hashes, and where the quote is.
fn raw_hashes(chars: &[char], mut i: usize) -> Option<(usize, usize)> {
    if matches!(chars[i], 'b' | 'c') {
        i += 1;
    }
    if chars.get(i) != Some(&'r') {
        return None;
    }
    i += 1;
    let hashes = chars[i..].iter().take_while(|c| **c == '#').count();
    (chars.get(i + hashes) == Some(&'"')).then_some((hashes, i + hashes))
}
