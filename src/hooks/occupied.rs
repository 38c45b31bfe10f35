//! Which paths are spoken for, by whom, and what goes together on one path.

use std::collections::BTreeMap;

use crate::wire::guest::PlanStep;

/// What a step makes of its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// A folder.
    Directory(u32),
    /// A whole file.
    Whole,
    /// A file with a block in it.
    Block { marker: String, mode: u32 },
    /// A link.
    Link,
    /// Nothing.
    Gone,
}

impl Shape {
    pub(super) fn of(step: &PlanStep) -> Self {
        match step {
            PlanStep::MakeDirectory { mode, .. } => Self::Directory(*mode),
            PlanStep::WriteFile { .. } => Self::Whole,
            PlanStep::EnsureBlock { marker, mode, .. } => {
                Self::Block { marker: marker.clone(), mode: *mode }
            }
            PlanStep::Symlink { .. } => Self::Link,
            PlanStep::Remove { .. } => Self::Gone,
        }
    }

    /// Do two steps on one path go together, in either order?
    fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Directory(one), Self::Directory(two)) => one == two,
            (Self::Block { marker: one, mode: a }, Self::Block { marker: two, mode: b }) => {
                one != two && a == b
            }
            (Self::Gone, Self::Gone) => true,
            _ => false,
        }
    }

    /// Can there be nothing below it?
    fn is_leaf(&self) -> bool {
        match self {
            Self::Whole | Self::Block { .. } | Self::Link => true,
            Self::Directory(_) | Self::Gone => false,
        }
    }
}

/// Two steps that do not go together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Clash {
    /// The path that is already spoken for.
    pub(super) path: String,
    /// By whom.
    pub(super) owner: usize,
}

/// The paths of a plan.
#[derive(Debug, Default)]
pub(super) struct Occupied(BTreeMap<String, Vec<(usize, Shape)>>);

impl Occupied {
    /// Does a step clash with one before it? What `forgiven` owners did to the same path may be
    /// overwritten. A path below a file or a link is never right: it would lead elsewhere.
    pub(super) fn clash(
        &self,
        path: &str,
        shape: &Shape,
        forgiven: impl Fn(usize) -> bool,
    ) -> Option<Clash> {
        let here = self.0.get(path).into_iter().flatten();
        let mut here = here.filter(|(owner, other)| !shape.agrees(other) && !forgiven(*owner));
        if let Some((owner, _)) = here.next() {
            return Some(Clash { path: path.to_owned(), owner: *owner });
        }
        let above = path.match_indices('/').map(|(end, _)| &path[..end]);
        for above in above {
            let mut leaves = self.0.get(above).into_iter().flatten();
            if let Some((owner, _)) = leaves.find(|(_, shape)| shape.is_leaf()) {
                return Some(Clash { path: above.to_owned(), owner: *owner });
            }
        }
        if !shape.is_leaf() {
            return None;
        }
        let prefix = format!("{path}/");
        let (below, steps) = self.0.range(prefix.clone()..).next()?;
        let owner = steps.first()?.0;
        below.starts_with(&prefix).then(|| Clash { path: below.clone(), owner })
    }

    pub(super) fn insert(&mut self, step: &PlanStep, owner: usize) {
        let shapes = self.0.entry(step.path().to_owned()).or_default();
        shapes.push((owner, Shape::of(step)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::guest::BlockPlace;

    fn directory(path: &str, mode: u32) -> PlanStep {
        PlanStep::MakeDirectory { path: path.into(), mode }
    }

    fn file(path: &str) -> PlanStep {
        PlanStep::WriteFile { path: path.into(), mode: 0o600, size: 0 }
    }

    fn block(path: &str, marker: &str, mode: u32) -> PlanStep {
        let (path, marker) = (path.into(), marker.into());
        PlanStep::EnsureBlock { path, mode, marker, at: BlockPlace::End, size: 0 }
    }

    fn link(path: &str) -> PlanStep {
        PlanStep::Symlink { path: path.into(), target: "x".into() }
    }

    #[test]
    fn what_goes_together_on_one_path_and_what_not() {
        for (first, second, clashes) in [
            (file("a"), file("a"), true),
            (file("a"), file("b"), false),
            (file("a"), file("ab"), false),
            (file("a"), file("a/b"), true),
            (file("a/b"), file("a"), true),
            (directory("a", 0o700), file("a/b"), false),
            (file("a/b"), directory("a", 0o700), false),
            (directory("a", 0o700), directory("a", 0o700), false),
            (directory("a", 0o700), directory("a", 0o755), true),
            (block("a", "one", 0o600), block("a", "two", 0o600), false),
            (block("a", "one", 0o600), block("a", "one", 0o600), true),
            (block("a", "one", 0o600), block("a", "two", 0o644), true),
            (file("a"), block("a", "one", 0o600), true),
            (link("a"), file("a/b/c"), true),
            (link("a"), directory("a", 0o755), true),
        ] {
            let mut occupied = Occupied::default();
            occupied.insert(&first, 0);
            let clash = occupied.clash(second.path(), &Shape::of(&second), |_| false);
            assert_eq!(clash.is_some(), clashes, "{first:?} then {second:?}");
        }
    }

    #[test]
    fn a_declared_order_forgives_the_same_path_but_no_detour() {
        let mut occupied = Occupied::default();
        occupied.insert(&file(".gitconfig"), 0);
        let second = block(".gitconfig", "one", 0o644);
        let ordered = |owner| owner == 0;
        assert_eq!(occupied.clash(second.path(), &Shape::of(&second), ordered), None);
        let below = file(".gitconfig/x");
        assert!(occupied.clash(below.path(), &Shape::of(&below), ordered).is_some());
    }
}
