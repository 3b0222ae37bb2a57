//! One host's patterns: a radix tree over the bytes of the path, each node whole before its children.
//!
//! | part of a node | bytes |
//! |---|---|
//! | head | 1: bit 0 a prefix pattern ends here, bit 1 an exact one, bit 2 there are children, bits 3–4 width of their ends minus one, bits 5–7 the label's length, 7 for a length of two bytes that follows |
//! | label | what every path below has here, without the byte that its parent chose it by |
//! | targets | of the prefix pattern, of the exact one: [`Width`] bytes each |
//! | children | 1 count minus one; the byte that chooses each, ascending; where each but the last ends; the nodes |
//!
//! *Cost:* a lookup reads the nodes along its path and no other: it grows with the path's depth, whatever the number of
//! patterns. *Invariant:* one set of patterns has one form (a node without a pattern has two children or more); [`verify`]
//! refuses every other. *Invariant:* reading bytes that were never verified ends, and gives no more than wrong answers.

use std::ops::Range;

use base::limits::PATTERN_BYTES_MAX;

use crate::snapshot::PathKind;

const PREFIX: u8 = 1;
const EXACT: u8 = 2;
const CHILDREN: u8 = 4;
const END_WIDTH_SHIFT: u8 = 3;
const LABEL_SHIFT: u8 = 5;
/// A label's length that does not fit its three bits.
const LABEL_LONG: usize = 7;
/// More children than these are searched by bisection.
const SCAN_MAX: usize = 16;

/// Bytes of a target, 1 to 4: one for all of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Width(u8);

impl Width {
    /// The least that holds every number up to `max`.
    pub(crate) fn of(max: u32) -> Width {
        Width((32 - max.leading_zeros()).div_ceil(8).max(1) as u8)
    }

    pub(crate) fn from_bytes(bytes: u8) -> Option<Width> {
        (1..=4).contains(&bytes).then_some(Width(bytes))
    }

    pub(crate) fn bytes(self) -> usize {
        usize::from(self.0)
    }

    fn write(self, number: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&number.to_le_bytes()[..self.bytes()]);
    }
}

/// One pattern's path, how it matches, and a number that the table's owner understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf<'a> {
    pub(crate) path: &'a [u8],
    pub(crate) kind: PathKind,
    pub(crate) target: u32,
}

/// How specific a match is: length of the pattern's path, and exact after prefix.
pub(crate) type Rank = (usize, PathKind);

/// A node, as its bytes say. Missing bytes read as nothing.
struct Node<'a> {
    label: &'a [u8],
    prefix: Option<u32>,
    exact: Option<u32>,
    firsts: &'a [u8],
    ends: &'a [u8],
    end_width: Width,
    children: &'a [u8],
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Takes bytes off the front.
fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

impl<'a> Node<'a> {
    #[inline]
    fn read(bytes: &'a [u8], width: Width) -> Option<Node<'a>> {
        let (&head, mut rest) = bytes.split_first()?;
        let label_bytes = match usize::from(head >> LABEL_SHIFT) {
            LABEL_LONG => number(take(&mut rest, 2)?) as usize,
            short => short,
        };
        let label = take(&mut rest, label_bytes)?;
        let mut target = |flag| -> Option<Option<u32>> {
            if head & flag == 0 { Some(None) } else { Some(Some(number(take(&mut rest, width.bytes())?))) }
        };
        let (prefix, exact) = (target(PREFIX)?, target(EXACT)?);
        let end_width = Width((head >> END_WIDTH_SHIFT & 3) + 1);
        let none: &[u8] = &[];
        let (mut firsts, mut ends) = (none, none);
        if head & CHILDREN != 0 {
            let more = usize::from(*take(&mut rest, 1)?.first()?);
            firsts = take(&mut rest, more + 1)?;
            ends = take(&mut rest, more * end_width.bytes())?;
        }
        Some(Node { label, prefix, exact, firsts, ends, end_width, children: rest })
    }

    /// Where the `index`th child stands among the children's bytes.
    fn place(&self, index: usize) -> Option<Range<usize>> {
        let end = |index: usize| {
            let at = index * self.end_width.bytes();
            self.ends.get(at..at + self.end_width.bytes()).map(|bytes| number(bytes) as usize)
        };
        let start = if index == 0 { 0 } else { end(index - 1)? };
        let last = index + 1 == self.firsts.len();
        Some(start..if last { self.children.len() } else { end(index)? })
    }

    #[inline]
    fn child(&self, first: u8) -> Option<&'a [u8]> {
        let index = if self.firsts.len() <= SCAN_MAX {
            self.firsts.iter().position(|byte| *byte == first)?
        } else {
            self.firsts.binary_search(&first).ok()?
        };
        self.children.get(self.place(index)?)
    }
}

/// Every pattern that matches a path, the less specific before the more specific.
pub(crate) struct Matches<'a, 'p> {
    width: Width,
    at: Option<&'a [u8]>,
    path: &'p [u8],
    consumed: usize,
    /// The exact pattern of the node whose prefix pattern was given last.
    exact: Option<u32>,
}

/// Walks a tree along a path.
pub(crate) fn matches<'a, 'p>(tree: &'a [u8], width: Width, path: &'p [u8]) -> Matches<'a, 'p> {
    Matches { width, at: Some(tree), path, consumed: 0, exact: None }
}

impl Iterator for Matches<'_, '_> {
    type Item = (Rank, u32);

    /// Ends: each node but the first takes a byte off the path.
    #[inline]
    fn next(&mut self) -> Option<(Rank, u32)> {
        loop {
            if let Some(target) = self.exact.take() {
                return Some(((self.consumed, PathKind::Exact), target));
            }
            let node = Node::read(self.at.take()?, self.width)?;
            let rest = self.path.get(self.consumed..)?.strip_prefix(node.label)?;
            let here = self.consumed + node.label.len();
            self.consumed = here;
            match rest.first() {
                Some(first) => {
                    self.at = node.child(*first);
                    self.consumed += 1;
                }
                None => self.exact = node.exact,
            }
            if let Some(target) = node.prefix {
                return Some(((here, PathKind::Prefix), target));
            }
        }
    }
}

/// Visits every pattern, by (path, kind). `visit` gets the path in a buffer that changes after. Stops where bytes are wrong.
pub(crate) fn visit(tree: &[u8], width: Width, visit: &mut dyn FnMut(Leaf<'_>)) {
    let mut path = Vec::new();
    visit_node(tree, width, &mut path, visit);
}

fn visit_node(bytes: &[u8], width: Width, path: &mut Vec<u8>, visit: &mut dyn FnMut(Leaf<'_>)) {
    let Some(node) = Node::read(bytes, width) else { return };
    let before = path.len();
    path.extend_from_slice(node.label);
    if path.len() > PATTERN_BYTES_MAX {
        // In no verified tree; bounds the recursion.
        path.truncate(before);
        return;
    }
    for (target, kind) in [(node.prefix, PathKind::Prefix), (node.exact, PathKind::Exact)] {
        if let Some(target) = target {
            visit(Leaf { path, kind, target });
        }
    }
    let mut visited = 0;
    for (index, first) in node.firsts.iter().enumerate() {
        // Unverified, children might overlap: none is visited twice.
        let Some(place) = node.place(index).filter(|place| place.start >= visited) else { continue };
        visited = place.end;
        let Some(child) = node.children.get(place) else { continue };
        path.push(*first);
        visit_node(child, width, path, visit);
        path.pop();
    }
    path.truncate(before);
}

/// Checks a tree whole, calling `target` with each target. Gives the number of patterns.
pub(crate) fn verify(
    tree: &[u8],
    width: Width,
    target: &mut dyn FnMut(u32) -> Result<(), &'static str>,
) -> Result<usize, &'static str> {
    if !Node::read(tree, width).ok_or("cut off")?.label.starts_with(b"/") {
        return Err("a path does not begin with '/'");
    }
    verify_node(tree, width, 0, target)
}

fn verify_node(
    bytes: &[u8],
    width: Width,
    above: usize,
    target: &mut dyn FnMut(u32) -> Result<(), &'static str>,
) -> Result<usize, &'static str> {
    let node = Node::read(bytes, width).ok_or("cut off")?;
    let here = above + node.label.len();
    if here > PATTERN_BYTES_MAX {
        return Err("a path is over its limit");
    }
    let head = bytes[0];
    let long = usize::from(head >> LABEL_SHIFT) == LABEL_LONG;
    if long && node.label.len() < LABEL_LONG {
        return Err("a label's length has another form");
    }
    if !node.label.iter().chain(node.firsts).all(u8::is_ascii_graphic) {
        return Err("a path has bytes that no path has");
    }
    let mut count = 0;
    for found in [node.prefix, node.exact].into_iter().flatten() {
        target(found)?;
        count += 1;
    }
    if node.firsts.is_empty() {
        let done = count > 0 && node.children.is_empty() && node.end_width == Width(1);
        return if done { Ok(count) } else { Err("a leaf without a pattern, or with bytes after it") };
    }
    if count == 0 && node.firsts.len() == 1 {
        return Err("a node that could be one with its child");
    }
    let ascending = node.firsts.windows(2).all(|pair| pair[0] < pair[1]);
    let last_start = node.place(node.firsts.len() - 1).map_or(0, |place| place.start);
    if !ascending || node.end_width != Width::of(u32::try_from(last_start).unwrap_or(u32::MAX)) {
        return Err("children in another form");
    }
    for index in 0..node.firsts.len() {
        let child = node.place(index).and_then(|place| node.children.get(place)).ok_or("a child out of place")?;
        count += verify_node(child, width, here + 1, target)?;
    }
    Ok(count)
}

/// Writes trees; keeps its buffers from one to the next.
pub(crate) struct Encoder {
    width: Width,
    /// One buffer for each level of a tree.
    levels: Vec<Vec<u8>>,
}

impl Encoder {
    pub(crate) fn new(width: Width) -> Encoder {
        Encoder { width, levels: Vec::new() }
    }

    /// Appends the tree of patterns that are ascending by (path, kind) and at least one.
    pub(crate) fn encode(&mut self, leaves: &[Leaf<'_>], out: &mut Vec<u8>) {
        self.node(leaves, 0, out);
    }

    /// `leaves` agree in their first `above` bytes.
    fn node(&mut self, leaves: &[Leaf<'_>], above: usize, out: &mut Vec<u8>) {
        let [first, .., last] = leaves else {
            if let [only] = leaves {
                self.head(only.path.get(above..).unwrap_or_default(), leaves, None, out);
            }
            return;
        };
        let rest = first.path.iter().zip(last.path).skip(above);
        let here = above + rest.take_while(|(a, b)| a == b).count();
        let own = leaves.iter().take_while(|leaf| leaf.path.len() == here).count();
        let (own, below) = leaves.split_at(own);
        let label = &first.path[above..here];
        if below.is_empty() {
            return self.head(label, own, None, out);
        }
        let (mut nodes, mut firsts, mut ends) = (self.levels.pop().unwrap_or_default(), [0u8; 256], Vec::new());
        for (index, child) in below.chunk_by(|a, b| a.path[here] == b.path[here]).enumerate() {
            firsts[index] = child[0].path[here];
            self.node(child, here + 1, &mut nodes);
            ends.push(nodes.len() as u32);
        }
        self.head(label, own, Some((&firsts[..ends.len()], &ends)), out);
        out.extend_from_slice(&nodes);
        nodes.clear();
        self.levels.push(nodes);
    }

    /// Everything of a node but its children themselves. `own` are its patterns, `children` their bytes and ends.
    fn head(&self, label: &[u8], own: &[Leaf<'_>], children: Option<(&[u8], &[u32])>, out: &mut Vec<u8>) {
        let has = |kind| own.iter().any(|leaf| leaf.kind == kind);
        let mut head = if has(PathKind::Prefix) { PREFIX } else { 0 } | if has(PathKind::Exact) { EXACT } else { 0 };
        // The last child ends where its parent does.
        let ends = children.map_or(&[][..], |(_, ends)| &ends[..ends.len() - 1]);
        let end_width = Width::of(ends.last().copied().unwrap_or(0));
        if children.is_some() {
            head |= CHILDREN | (end_width.0 - 1) << END_WIDTH_SHIFT;
        }
        out.push(head | (label.len().min(LABEL_LONG) as u8) << LABEL_SHIFT);
        if label.len() >= LABEL_LONG {
            out.extend_from_slice(&(label.len() as u16).to_le_bytes());
        }
        out.extend_from_slice(label);
        // Sorted: the prefix pattern is first.
        for leaf in own {
            self.width.write(leaf.target, out);
        }
        if let Some((firsts, _)) = children {
            out.push((firsts.len() - 1) as u8);
            out.extend_from_slice(firsts);
            for end in ends {
                end_width.write(*end, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Patterns = BTreeMap<(Vec<u8>, PathKind), u32>;

    fn encode(patterns: &Patterns, width: Width) -> Vec<u8> {
        let leaves: Vec<Leaf<'_>> =
            patterns.iter().map(|((path, kind), target)| Leaf { path, kind: *kind, target: *target }).collect();
        let mut out = Vec::new();
        Encoder::new(width).encode(&leaves, &mut out);
        out
    }

    fn patterns() -> impl Strategy<Value = Patterns> {
        let path = prop_oneof![4 => "/[ab/]{0,6}", 1 => "/[a-z]{1,2}", 1 => "/[ab]{6,9}/[a-c]{0,20}"];
        let kind = prop_oneof![Just(PathKind::Prefix), Just(PathKind::Exact)];
        let key = (path.prop_map(String::into_bytes), kind);
        proptest::collection::btree_map(key, 0u32..70_000, 1..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn a_tree_gives_back_what_is_in_it_and_matches_as_trying_each(patterns in patterns(), path in "/[ab/c]{0,12}") {
            let width = Width::of(70_000);
            let tree = encode(&patterns, width);
            prop_assert_eq!(verify(&tree, width, &mut |_| Ok(())), Ok(patterns.len()));
            let mut read = Patterns::new();
            visit(&tree, width, &mut |leaf| _ = read.insert((leaf.path.to_vec(), leaf.kind), leaf.target));
            prop_assert_eq!(&read, &patterns);
            for path in patterns.keys().map(|(path, _)| path.as_slice()).chain([path.as_bytes()]) {
                let found: Vec<(Rank, u32)> = matches(&tree, width, path).collect();
                let mut tried: Vec<(Rank, u32)> = patterns
                    .iter()
                    .filter(|((pattern, kind), _)| match kind {
                        PathKind::Prefix => path.starts_with(pattern),
                        PathKind::Exact => path == pattern.as_slice(),
                    })
                    .map(|((pattern, kind), target)| ((pattern.len(), *kind), *target))
                    .collect();
                tried.sort_unstable();
                prop_assert_eq!(found, tried);
            }
        }

        #[test]
        fn a_changed_tree_is_refused_or_another_tree_and_reading_it_ends(
            patterns in patterns(),
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
            path in "/[ab/c]{0,12}",
        ) {
            let width = Width::of(70_000);
            let mut tree = encode(&patterns, width);
            for (at, value) in changes {
                let at = at.index(tree.len());
                tree[at] = value;
            }
            // Unverified: no panic, no endless walk.
            prop_assert!(matches(&tree, width, path.as_bytes()).count() <= 2 * path.len() + 2);
            let mut read = Patterns::new();
            visit(&tree, width, &mut |leaf| _ = read.insert((leaf.path.to_vec(), leaf.kind), leaf.target));
            // One form: what passes is what would have been written.
            if verify(&tree, width, &mut |_| Ok(())).is_ok() {
                prop_assert_eq!(encode(&read, width), tree);
            }
        }

        #[test]
        fn any_bytes_are_read_to_an_end(tree in proptest::collection::vec(any::<u8>(), 0..200), path in "/[ -~]{0,40}") {
            let width = Width::of(300);
            let _ = matches(&tree, width, path.as_bytes()).count();
            let _ = verify(&tree, width, &mut |_| Ok(()));
            visit(&tree, width, &mut |_| ());
        }
    }

    #[test]
    fn many_children_long_labels_and_large_trees_have_their_forms() {
        let mut patterns = Patterns::new();
        for number in 0..100_000u32 {
            let path = format!("/users/{number}{}", if number % 1000 == 0 { "x".repeat(300) } else { String::new() });
            patterns.insert((path.into_bytes(), PathKind::Exact), number);
        }
        for first in b'!'..=b'~' {
            patterns.insert((vec![b'/', first, b'z'], PathKind::Prefix), 7);
        }
        let width = Width::of(100_000);
        let tree = encode(&patterns, width);
        assert_eq!(verify(&tree, width, &mut |_| Ok(())), Ok(patterns.len()));
        for ((path, kind), target) in &patterns {
            assert_eq!(matches(&tree, width, path).last(), Some(((path.len(), *kind), *target)));
        }
    }
}
