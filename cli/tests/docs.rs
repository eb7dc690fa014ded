//! What the documentation names exists: files, functions, tests.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

#[test]
fn every_file_named_in_the_documentation_exists() {
    let mut missing = Vec::new();
    for page in pages() {
        for quoted in quoted(&page) {
            let path = quoted.split("::").next().unwrap_or_default();
            if path.contains('/') && path.ends_with(".rs") && !root().join(path).is_file() {
                missing.push(format!("{}: {path}", page.display()));
            }
        }
    }
    assert!(missing.is_empty(), "there is no such file:\n{}", missing.join("\n"));
}

#[test]
fn every_function_and_test_named_in_the_message_path_exists() {
    let page = root().join("docs/message-path.md");
    let named: BTreeSet<(String, String)> = quoted(&page)
        .iter()
        .filter_map(|quoted| quoted.split_once("::"))
        .map(|(path, name)| (path.to_owned(), name.to_owned()))
        .collect();
    assert!(named.len() > 30, "only {} names were found: has the notation changed?", named.len());
    let missing: Vec<_> = named
        .into_iter()
        .filter(|(path, name)| !defines(path, name))
        .map(|(path, name)| format!("{path}::{name}"))
        .collect();
    assert!(missing.is_empty(), "there is no such function or test:\n{}", missing.join("\n"));
}

#[test]
fn the_last_column_of_the_message_path_names_tests() {
    let text = fs::read_to_string(root().join("docs/message-path.md")).unwrap();
    let cells = text.lines().filter_map(|line| line.strip_suffix('|')?.rsplit('|').next());
    let wrong: Vec<_> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter(|named| !named.split_once("::").is_some_and(|(path, name)| is_test(path, name)))
        .collect();
    assert!(wrong.is_empty(), "these are no tests:\n{}", wrong.join("\n"));
}

/// Whether the file defines a function of this name.
fn defines(path: &str, name: &str) -> bool {
    let Ok(source) = fs::read_to_string(root().join(path)) else { return false };
    ["(", "<"].iter().any(|next| source.contains(&format!("fn {name}{next}")))
}

/// Whether the file defines a test of this name: its attribute stands on the line before.
fn is_test(path: &str, name: &str) -> bool {
    let Ok(source) = fs::read_to_string(root().join(path)) else { return false };
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    lines.windows(2).any(|pair| {
        let attribute = pair[0].starts_with("#[test]") || pair[0].starts_with("#[tokio::test");
        attribute && pair[1].contains(&format!("fn {name}("))
    })
}

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("ARCHITECTURE.md"), root().join("README.md")];
    for directory in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root().join(directory)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        pages.extend(paths.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    }
    pages
}

/// What stands between backquotes, outside blocks of code.
fn quoted(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let mut in_block = false;
    let mut quoted = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            quoted.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    quoted
}

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
