//! Puts all changes of a file into its text, each behind a question whether it is switched on.
//!
//! Only text is put in, around the expressions that are there: `a < b` becomes `(match (&(a), &(b))
//! { (l, r) => pick(7, l > r, l < r) })`. What does not compile that way is left out, see
//! `compile.rs`.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use anyhow::{Context, Result};
use proc_macro2::LineColumn;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::list::{Change, Genre, Position};

/// A file with its changes.
pub struct Woven {
    /// Its text.
    pub text: String,
    /// Where the text of a single change is.
    pub pieces: Vec<(Range<usize>, u32)>,
    /// The expressions that are written anew, with all changes of each.
    pub nodes: Vec<Node>,
}

/// An expression that is written anew.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it is in the new text.
    pub range: Range<usize>,
    /// The changes of it.
    pub ids: Vec<u32>,
    /// Whether the changes take arms from it.
    pub arms: bool,
}

/// Text to be put in.
struct Edit {
    at: usize,
    /// The old text from `at` to here goes.
    until: usize,
    end: End,
    /// Of the expression.
    depth: usize,
    text: Vec<(String, Option<u32>)>,
    node: Option<usize>,
}

/// Which end of an expression the text belongs to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum End {
    Close,
    Open,
    Middle,
}

struct Weaver<'a> {
    path: &'static str,
    lines: Vec<&'a str>,
    starts: Vec<usize>,
    source: &'a str,
    wanted: HashMap<(Genre, usize), Vec<&'a Change>>,
    edits: Vec<Edit>,
    nodes: Vec<Node>,
    depth: usize,
    constant: bool,
}

/// Weaves the changes into the text of their file. `path` is that of the module with the switch.
///
/// # Errors
///
/// If the text is not Rust.
pub fn weave(
    source: &str,
    changes: &[&Change],
    left_out: &BTreeSet<u32>,
    path: &'static str,
) -> Result<Woven> {
    let syntax = syn::parse_file(source).context("not Rust")?;
    let mut starts = vec![0];
    starts.extend(source.match_indices('\n').map(|(at, _)| at + 1));
    let mut weaver = Weaver {
        path,
        lines: source.lines().collect(),
        starts,
        source,
        wanted: HashMap::new(),
        edits: Vec::new(),
        nodes: Vec::new(),
        depth: 1,
        constant: false,
    };
    let open = changes
        .iter()
        .filter(|c| !left_out.contains(&c.id) && c.can_be_switched());
    for change in open {
        let at = weaver.byte(change.span.start);
        weaver
            .wanted
            .entry((change.genre, at))
            .or_default()
            .push(change);
    }
    weaver.values();
    weaver.visit_file(&syntax);
    Ok(weaver.render())
}

impl<'a> Weaver<'a> {
    fn byte(&self, position: Position) -> usize {
        let line = self.lines.get(position.line - 1).copied().unwrap_or("");
        let column = line
            .char_indices()
            .map(|(at, _)| at)
            .nth(position.column - 1);
        self.starts[position.line - 1] + column.unwrap_or(line.len())
    }

    fn range(&self, node: &impl Spanned) -> Range<usize> {
        let span = node.span();
        let byte = |at: LineColumn| {
            self.byte(Position {
                line: at.line,
                column: at.column + 1,
            })
        };
        byte(span.start())..byte(span.end())
    }

    fn of(&self, genre: Genre, at: usize) -> Vec<&'a Change> {
        self.wanted.get(&(genre, at)).cloned().unwrap_or_default()
    }

    fn node(&mut self, changes: &[&Change], arms: bool) -> usize {
        let ids = changes.iter().map(|c| c.id).collect();
        self.nodes.push(Node {
            range: 0..0,
            ids,
            arms,
        });
        self.nodes.len() - 1
    }

    fn put(&mut self, at: Range<usize>, end: End, node: Option<usize>, text: Vec<Text>) {
        let Range { start, end: until } = at;
        self.edits.push(Edit {
            at: start,
            until,
            end,
            depth: self.depth,
            text,
            node,
        });
    }

    /// Functions that only return a value.
    fn values(&mut self) {
        let all: Vec<_> = self
            .wanted
            .iter()
            .filter(|((genre, _), _)| *genre == Genre::FnValue)
            .map(|((_, at), changes)| (*at, changes.clone()))
            .collect();
        for (at, changes) in all {
            let text = changes.iter().map(|change| {
                let Change {
                    id, replacement, ..
                } = change;
                (
                    format!("if {}::is({id}) {{ return {replacement}; }} ", self.path),
                    Some(*id),
                )
            });
            let text = text.collect();
            self.edits.push(Edit {
                at,
                until: at,
                end: End::Open,
                depth: 0,
                text,
                node: None,
            });
        }
    }

    /// `if is(1) { first } else if is(2) { second } else { old }`
    fn choice(&self, changes: &[&Change], write: impl Fn(&str) -> String, old: &str) -> Vec<Text> {
        let mut text = Vec::new();
        for change in changes {
            text.push((format!("if {}::is({}) {{ ", self.path, change.id), None));
            text.push((write(&change.replacement), Some(change.id)));
            text.push((" } else ".into(), None));
        }
        text.push((format!("{{ {} }}", write(old)), None));
        text
    }

    fn binary(&mut self, expr: &syn::ExprBinary, changes: &[&Change]) {
        let (left, right) = (self.range(&expr.left), self.range(&expr.right));
        let op = self.range(&expr.op);
        let old = &self.source[op.clone()];
        let node = Some(self.node(changes, false));
        let path = self.path;
        match old {
            "&&" | "||" => {
                let [change] = changes else { return };
                let id = change.id;
                let (compared, rest) = if old == "&&" { ("!=", "") } else { ("==", "!") };
                let open = "(if (";
                let middle = format!(") {compared} {path}::is({id}) {{ ");
                let close = format!(" }} else {{ {rest}{path}::is({id}) }})");
                self.put(left.start..left.start, End::Open, node, plain(open));
                self.put(op, End::Middle, None, plain(&middle));
                self.put(right.end..right.end, End::Close, node, plain(&close));
            }
            "==" | "!=" | "<" | "<=" | ">" | ">=" => {
                let by = if self.constant { "" } else { "&" };
                let mut text = plain(")) { (l, r) => ");
                for change in changes {
                    text.push((format!("{path}::pick({}, ", change.id), None));
                    text.push((format!("l {} r, ", change.replacement), Some(change.id)));
                }
                text.push((format!("l {old} r{} }})", ")".repeat(changes.len())), None));
                self.put(
                    left.start..left.start,
                    End::Open,
                    node,
                    plain(&format!("(match ({by}(")),
                );
                self.put(op, End::Middle, None, plain(&format!("), {by}(")));
                self.put(right.end..right.end, End::Close, node, text);
            }
            _ if assigns(old) => {
                let place = &self.source[left.clone()];
                let mut text = plain(") { r => ");
                text.extend(self.choice(changes, |op| format!("{place} {op} r"), old));
                text.push((" })".into(), None));
                self.put(left.start..op.end, End::Open, node, plain("(match ("));
                self.put(right.end..right.end, End::Close, node, text);
            }
            _ => {
                let mut text = plain(")) { (l, r) => ");
                text.extend(self.choice(changes, |op| format!("l {op} r"), old));
                text.push((" })".into(), None));
                self.put(left.start..left.start, End::Open, node, plain("(match (("));
                self.put(op, End::Middle, None, plain("), ("));
                self.put(right.end..right.end, End::Close, node, text);
            }
        }
    }

    fn unary(&mut self, expr: &syn::ExprUnary, changes: &[&Change]) {
        let (op, whole) = (self.range(&expr.op), self.range(expr));
        let old = &self.source[op.clone()];
        let node = Some(self.node(changes, false));
        let mut text = plain(") { v => ");
        text.extend(self.choice(changes, |op| format!("{op}v"), old));
        text.push((" })".into(), None));
        self.put(op, End::Open, node, plain("(match ("));
        self.put(whole.end..whole.end, End::Close, node, text);
    }

    fn arm(&mut self, arm: &syn::Arm, whole: usize) {
        let path = self.path;
        let deleted = self.of(Genre::MatchArm, self.range(arm).start);
        let stays = deleted
            .iter()
            .map(|c| format!("!{path}::is({})", c.id))
            .next();
        self.nodes[whole].ids.extend(deleted.iter().map(|c| c.id));
        let Some((_, guard)) = &arm.guard else {
            let at = self.range(&arm.pat).end;
            if let Some(stays) = stays {
                self.put(at..at, End::Close, None, plain(&format!(" if {stays} ")));
            }
            return;
        };
        let at = self.range(guard);
        let constant = self.of(Genre::MatchArmGuard, at.start);
        if constant.is_empty() && stays.is_none() {
            return;
        }
        let mut open = stays
            .map(|stays| format!("{stays} && "))
            .unwrap_or_default();
        open.push('(');
        for change in &constant {
            open.push_str(&match change.replacement.as_str() {
                "true" => format!("{path}::is({}) || ", change.id),
                _ => format!("!{path}::is({}) && ", change.id),
            });
        }
        // `is(1) || !is(2) && (guard)`: at most one is on.
        open.push('(');
        let node = Some(self.node(&constant, false));
        self.put(at.start..at.start, End::Open, node, plain(&open));
        self.put(at.end..at.end, End::Close, node, plain("))"));
    }

    fn render(mut self) -> Woven {
        self.edits.sort_by_key(|edit| {
            let depth = edit.depth as isize;
            (
                edit.at,
                edit.end,
                if edit.end == End::Close {
                    -depth
                } else {
                    depth
                },
            )
        });
        let (mut text, mut pieces, mut done) = (String::new(), Vec::new(), 0);
        for edit in &self.edits {
            text.push_str(&self.source[done..edit.at]);
            let start = text.len();
            for (piece, id) in &edit.text {
                let start = text.len();
                text.push_str(piece);
                if let Some(id) = id {
                    pieces.push((start..text.len(), *id));
                }
            }
            match (edit.end, edit.node) {
                (End::Open, Some(node)) => self.nodes[node].range.start = start,
                (End::Close, Some(node)) => self.nodes[node].range.end = text.len(),
                _ => {}
            }
            done = edit.until;
        }
        text.push_str(&self.source[done..]);
        Woven {
            text,
            pieces,
            nodes: self.nodes,
        }
    }
}

/// Whether an operator assigns; comparisons also end in `=`.
fn assigns(op: &str) -> bool {
    op.ends_with('=') && !matches!(op, "==" | "!=" | "<=" | ">=")
}

type Text = (String, Option<u32>);

fn plain(text: &str) -> Vec<Text> {
    vec![(text.to_owned(), None)]
}

impl<'a> Visit<'a> for Weaver<'a> {
    fn visit_expr(&mut self, expr: &'a syn::Expr) {
        self.depth += 1;
        match expr {
            syn::Expr::Binary(binary) => {
                let changes = self.of(Genre::BinaryOperator, self.range(&binary.op).start);
                if !changes.is_empty() {
                    self.binary(binary, &changes);
                    if assigns(&self.source[self.range(&binary.op)]) {
                        // The place is written twice: nothing in it is changed.
                        self.visit_expr(&binary.right);
                        self.depth -= 1;
                        return;
                    }
                }
            }
            syn::Expr::Unary(unary) => {
                let changes = self.of(Genre::UnaryOperator, self.range(&unary.op).start);
                if !changes.is_empty() {
                    self.unary(unary, &changes);
                }
            }
            _ => {}
        }
        visit::visit_expr(self, expr);
        self.depth -= 1;
    }

    fn visit_expr_match(&mut self, expr: &'a syn::ExprMatch) {
        let node = self.node(&[], true);
        let range = self.range(expr);
        self.put(range.start..range.start, End::Open, Some(node), Vec::new());
        self.put(range.end..range.end, End::Close, Some(node), Vec::new());
        for arm in &expr.arms {
            self.depth += 1;
            self.arm(arm, node);
            self.depth -= 1;
        }
        self.depth += 1;
        visit::visit_expr_match(self, expr);
        self.depth -= 1;
    }

    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        let outer = std::mem::replace(&mut self.constant, item.sig.constness.is_some());
        visit::visit_item_fn(self, item);
        self.constant = outer;
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        let outer = std::mem::replace(&mut self.constant, item.sig.constness.is_some());
        visit::visit_impl_item_fn(self, item);
        self.constant = outer;
    }
}
