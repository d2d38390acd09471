//! Changes are put beside what was there, and nothing else is touched.

use std::collections::BTreeSet;

use drbd_schemata::list::{Change, Genre};
use drbd_schemata::weave::weave;
use serde_json::json;

/// A change of the first place in a line that has this text.
fn change(source: &str, id: u32, genre: Genre, old: &str, replacement: &str) -> Change {
    let at = source.find(old).unwrap();
    let position = |at: usize| json!({ "line": 1, "column": at + 1 });
    let span = json!({ "start": position(at), "end": position(at + old.len()) });
    let mut change: Change = serde_json::from_value(json!({
        "file": "f.rs", "function": { "return_type": "" }, "genre": format!("{genre:?}"),
        "replacement": replacement, "span": span,
    }))
    .unwrap();
    change.id = id;
    change
}

fn woven(source: &str, changes: &[Change]) -> String {
    let changes: Vec<&Change> = changes.iter().collect();
    weave(source, &changes, &BTreeSet::new(), "s").unwrap().text
}

#[test]
fn without_changes_the_text_stays_as_it_is() {
    let source =
        "/// \u{e4}\nfn f() -> bool { match a { 1 | 2 if a > 1 => !b, _ => a < 3 && b } }\n";
    assert_eq!(woven(source, &[]), source);
}

#[test]
fn a_comparison_has_all_its_answers_side_by_side() {
    let source = "fn f() -> bool { a < b }";
    let changes =
        ["==", ">"].map(|op| change(source, op.len() as u32, Genre::BinaryOperator, "<", op));
    assert_eq!(
        woven(source, &changes),
        "fn f() -> bool { (match (&(a ), &( b)) { (l, r) => s::pick(2, l == r, \
         s::pick(1, l > r, l < r)) }) }"
    );
}

#[test]
fn what_is_not_evaluated_without_a_change_is_not_evaluated() {
    let source = "fn f() -> bool { a && b }";
    assert_eq!(
        woven(
            source,
            &[change(source, 1, Genre::BinaryOperator, "&&", "||")]
        ),
        "fn f() -> bool { (if (a ) != s::is(1) {  b } else { s::is(1) }) }"
    );
    let source = "fn f() -> bool { a || b }";
    assert_eq!(
        woven(
            source,
            &[change(source, 1, Genre::BinaryOperator, "||", "&&")]
        ),
        "fn f() -> bool { (if (a ) == s::is(1) {  b } else { !s::is(1) }) }"
    );
}

#[test]
fn expressions_in_expressions_keep_their_order() {
    let source = "fn f() -> u8 { !(a + b) }";
    let changes = [
        change(source, 1, Genre::UnaryOperator, "!", ""),
        change(source, 2, Genre::BinaryOperator, "+", "-"),
    ];
    assert_eq!(
        woven(source, &changes),
        "fn f() -> u8 { (match (((match ((a ), ( b)) { (l, r) => if s::is(2) { l - r } else \
         { l + r } }))) { v => if s::is(1) { v } else { !v } }) }"
    );
}

#[test]
fn an_assignment_names_its_place_again() {
    let source = "fn f() { self.a += b; }";
    assert_eq!(
        woven(
            source,
            &[change(source, 1, Genre::BinaryOperator, "+=", "-=")]
        ),
        "fn f() { (match ( b) { r => if s::is(1) { self.a -= r } else { self.a += r } }); }"
    );
}

#[test]
fn an_arm_goes_by_its_guard() {
    let source = "fn f() { match a { X if b => 1, Y => 2, _ => 3 } }";
    let changes = [
        change(source, 1, Genre::MatchArm, "X if b => 1,", ""),
        change(source, 2, Genre::MatchArmGuard, "b =>", "true"),
        change(source, 3, Genre::MatchArmGuard, "b =>", "false"),
        change(source, 4, Genre::MatchArm, "Y => 2,", ""),
    ];
    assert_eq!(
        woven(source, &changes),
        "fn f() { match a { X if !s::is(1) && (s::is(2) || !s::is(3) && (b)) => 1, \
         Y if !s::is(4)  => 2, _ => 3 } }"
    );
}

#[test]
fn a_function_that_only_returns_a_value_does_so_before_anything_else() {
    let source = "fn f() -> u8 { a + b }";
    let changes = [
        change(source, 1, Genre::FnValue, "a + b", "0"),
        change(source, 2, Genre::BinaryOperator, "+", "-"),
    ];
    assert_eq!(
        woven(source, &changes),
        "fn f() -> u8 { if s::is(1) { return 0; } (match ((a ), ( b)) { (l, r) => \
         if s::is(2) { l - r } else { l + r } }) }"
    );
}
