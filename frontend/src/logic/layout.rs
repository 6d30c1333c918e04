//! How the terminals of a session are arranged: a tree of splits whose leaves are groups of tabs. The store holds one
//! [`Layout`] per session, `ui::workspace` draws it from the rectangles that it tells, and localStorage remembers it
//! as JSON; so whatever comes from there is repaired before it is used.

use super::{
    keys::Direction,
    read::{Read, field, from_text, names, objects},
    units::within,
};
use drydock_protocol::{TerminalId, frame::Size};
use serde::Serialize;
use serde_json::Value;

/// Names a group or a split, unique within a layout.
pub type Id = u32;

/// Smallest share of a split that one side may have.
pub const LEAST: f64 = 0.1;
/// Most groups: more panes than this are too small to use.
pub const MOST_GROUPS: usize = 16;

/// The smallest terminal that there is; its contents are cut off in a smaller pane.
const SMALLEST: Size = Size { cols: 20, rows: 5 };

/// Which way a split divides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Side by side.
    Row,
    /// One above the other.
    Column,
}

impl Axis {
    /// Whether a pane with this room can be divided so: each half must still be a terminal.
    pub fn divides(self, room: Size) -> bool {
        match self {
            Self::Row => room.cols >= 2 * SMALLEST.cols,
            Self::Column => room.rows >= 2 * SMALLEST.rows,
        }
    }
}

/// Tabs that share one place; one of them shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// Its name.
    pub id: Id,
    /// Its terminals in the order of their tabs.
    pub tabs: Vec<TerminalId>,
    /// The one that shows.
    pub active: Option<TerminalId>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Tree {
    Group(Group),
    Split { id: Id, axis: Axis, share: f64, first: Box<Tree>, second: Box<Tree> },
}

/// A place in the workspace; all four in 0..=1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rect {
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
}

impl Rect {
    const ALL: Self = Self { x: 0.0, y: 0.0, w: 1.0, h: 1.0 };

    fn halves(self, axis: Axis, share: f64) -> (Self, Self) {
        match axis {
            Axis::Row => {
                let w = self.w * share;
                (Self { w, ..self }, Self { x: self.x + w, w: self.w - w, ..self })
            }
            Axis::Column => {
                let h = self.h * share;
                (Self { h, ..self }, Self { y: self.y + h, h: self.h - h, ..self })
            }
        }
    }
}

/// The line between the two sides of a split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    /// The split's name.
    pub id: Id,
    /// Which way it divides.
    pub axis: Axis,
    /// The first side's share.
    pub share: f64,
    /// The whole split's place.
    pub area: Rect,
}

/// The arrangement of one session's terminals.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layout {
    root: Tree,
    focus: Id,
    next: Id,
}

impl Default for Layout {
    fn default() -> Self {
        Self { root: Tree::Group(Group { id: 0, tabs: Vec::new(), active: None }), focus: 0, next: 1 }
    }
}

impl Layout {
    /// What was remembered, with all that can't be used taken out.
    pub fn from_json(text: &str) -> Option<Self> {
        let mut layout: Self = from_text(text)?;
        let (mut seen, mut ids) = (Vec::new(), Vec::new());
        if !layout.root.repair(&mut seen, &mut ids) || layout.groups().len() > MOST_GROUPS {
            return None;
        }
        layout.next = ids.iter().max().map_or(0, |id| id.saturating_add(1));
        layout.tidy();
        Some(layout)
    }

    /// The groups with their places, in reading order.
    pub fn groups(&self) -> Vec<(Group, Rect)> {
        let mut all = Vec::new();
        self.root.walk(Rect::ALL, &mut |tree, rect| {
            if let Tree::Group(group) = tree {
                all.push((group.clone(), rect));
            }
        });
        all
    }

    /// As [`Layout::groups`] for a narrow screen: everything in one group, the focused terminal showing.
    pub fn one_group(&self) -> (Group, Rect) {
        let groups = self.groups();
        let tabs = groups.iter().flat_map(|(group, _)| group.tabs.clone()).collect();
        (Group { id: self.focus, tabs, active: self.active() }, Rect::ALL)
    }

    /// The lines between them.
    pub fn bars(&self) -> Vec<Bar> {
        let mut all = Vec::new();
        self.root.walk(Rect::ALL, &mut |tree, area| {
            if let Tree::Split { id, axis, share, .. } = *tree {
                all.push(Bar { id, axis, share, area });
            }
        });
        all
    }

    /// The group that has the focus.
    pub fn focus(&self) -> Id {
        self.focus
    }

    /// The terminal that has the focus.
    pub fn active(&self) -> Option<TerminalId> {
        self.root.find(&|group| group.id == self.focus)?.active
    }

    /// The group that a terminal is in.
    pub fn group_of(&self, terminal: TerminalId) -> Option<Id> {
        Some(self.root.find(&|group| group.tabs.contains(&terminal))?.id)
    }

    /// Shows a terminal and gives it the focus.
    pub fn activate(&mut self, terminal: TerminalId) {
        if let Some(group) = self.root.find_mut(&|group| group.tabs.contains(&terminal)) {
            group.active = Some(terminal);
            self.focus = group.id;
        }
    }

    /// Splits a group; answers the new one, which has the focus. `None` if there are too many.
    pub fn split(&mut self, group: Id, axis: Axis) -> Option<Id> {
        if self.groups().len() >= MOST_GROUPS {
            return None;
        }
        let (new, split) = (self.next, self.next + 1);
        let tree = self.root.subtree(group)?;
        let first =
            Box::new(std::mem::replace(tree, Tree::Group(Group { id: new, tabs: Vec::new(), active: None })));
        let second = Box::new(Tree::Group(Group { id: new, tabs: Vec::new(), active: None }));
        *tree = Tree::Split { id: split, axis, share: 0.5, first, second };
        self.next += 2;
        self.focus = new;
        Some(new)
    }

    /// Puts a terminal into a group (taking it out of another) and shows it there.
    pub fn place(&mut self, terminal: TerminalId, group: Id) {
        if self.group_of(terminal) != Some(group) {
            self.take_out(terminal);
        }
        let target = if self.root.find(&|g| g.id == group).is_some() { group } else { self.focus };
        if let Some(group) = self.root.find_mut(&|g| g.id == target) {
            if !group.tabs.contains(&terminal) {
                group.tabs.push(terminal);
            }
            group.active = Some(terminal);
            self.focus = group.id;
        }
        self.tidy();
    }

    /// Puts a terminal in another's stead.
    pub fn replace(&mut self, old: TerminalId, new: TerminalId) {
        self.take_out(new);
        if let Some(group) = self.root.find_mut(&|g| g.tabs.contains(&old)) {
            for tab in &mut group.tabs {
                if *tab == old {
                    *tab = new;
                }
            }
            group.active = Some(new);
        }
        self.tidy();
    }

    /// Makes the layout hold exactly these terminals: others go, missing ones join the focused group.
    /// Groups that become empty go too, but for one that waits for its terminal (`keep`).
    pub fn sync(&mut self, present: &[TerminalId], keep: &[Id]) {
        let gone: Vec<TerminalId> =
            self.groups().iter().flat_map(|(g, _)| g.tabs.clone()).filter(|t| !present.contains(t)).collect();
        for terminal in gone {
            self.take_out(terminal);
        }
        for &terminal in present {
            if self.group_of(terminal).is_none() {
                let focus = self.focus;
                if let Some(group) = self.root.find_mut(&|g| g.id == focus) {
                    group.tabs.push(terminal);
                    group.active.get_or_insert(terminal);
                }
            }
        }
        self.tidy_but(keep);
    }

    /// Moves a line: `share` is the first side's part.
    pub fn set_share(&mut self, split: Id, value: f64) {
        if let Some(Tree::Split { share, .. }) = self.root.split_mut(split)
            && value.is_finite()
        {
            *share = within(value, LEAST, 1.0 - LEAST);
        }
    }

    /// The group beside this one in a direction, if there is one.
    pub fn neighbour(&self, group: Id, direction: Direction) -> Option<Id> {
        const NEAR: f64 = 1e-6;
        let groups = self.groups();
        let (_, here) = groups.iter().find(|(g, _)| g.id == group)?;
        let (cx, cy) = (here.x + here.w / 2.0, here.y + here.h / 2.0);
        groups
            .iter()
            .filter(|(_, r)| match direction {
                Direction::Left => (r.x + r.w - here.x).abs() < NEAR,
                Direction::Right => (r.x - here.x - here.w).abs() < NEAR,
                Direction::Up => (r.y + r.h - here.y).abs() < NEAR,
                Direction::Down => (r.y - here.y - here.h).abs() < NEAR,
            })
            .filter_map(|(g, r)| {
                // How far the middle of here is from the other's side that touches it.
                let off = match direction {
                    Direction::Left | Direction::Right => outside(cy, r.y, r.h),
                    Direction::Up | Direction::Down => outside(cx, r.x, r.w),
                };
                let overlaps = match direction {
                    Direction::Left | Direction::Right => {
                        r.y < here.y + here.h - NEAR && here.y < r.y + r.h - NEAR
                    }
                    Direction::Up | Direction::Down => {
                        r.x < here.x + here.w - NEAR && here.x < r.x + r.w - NEAR
                    }
                };
                overlaps.then_some((off, g.id))
            })
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, id)| id)
    }

    fn take_out(&mut self, terminal: TerminalId) {
        while let Some(group) = self.root.find_mut(&|g| g.tabs.contains(&terminal)) {
            let at = group.tabs.iter().position(|t| *t == terminal).unwrap_or(0);
            group.tabs.remove(at);
            if group.active == Some(terminal) {
                group.active = group.tabs.get(at).or(group.tabs.last()).copied();
            }
        }
    }

    fn tidy(&mut self) {
        self.tidy_but(&[]);
    }

    fn tidy_but(&mut self, keep: &[Id]) {
        self.root.collapse(keep);
        if self.root.find(&|g| g.id == self.focus).is_none()
            && let Some((group, _)) = self.groups().first()
        {
            self.focus = group.id;
        }
    }
}

/// How far `at` is outside of `start..start + length`.
fn outside(at: f64, start: f64, length: f64) -> f64 {
    (start - at).max(at - start - length).max(0.0)
}

/// True if a thing was not in the list yet; it is now.
fn new<T: PartialEq>(list: &mut Vec<T>, thing: T) -> bool {
    let is_new = !list.contains(&thing);
    if is_new {
        list.push(thing);
    }
    is_new
}

objects! {
    Layout { root, focus, next }
    Group { id, tabs, active }
}
names! { Axis { "row" => Row, "column" => Column } }

impl Read for Tree {
    fn read(value: &Value) -> Option<Self> {
        if let Some(group) = value.get("group") {
            return Group::read(group).map(Self::Group);
        }
        let split = value.get("split")?;
        let (id, axis, share) = (field(split, "id")?, field(split, "axis")?, field(split, "share")?);
        let side = |name| Self::read(split.get(name)?).map(Box::new);
        Some(Self::Split { id, axis, share, first: side("first")?, second: side("second")? })
    }
}

// === impl Tree ===

impl Tree {
    fn walk(&self, rect: Rect, visit: &mut dyn FnMut(&Tree, Rect)) {
        visit(self, rect);
        if let Self::Split { axis, share, first, second, .. } = self {
            let (a, b) = rect.halves(*axis, *share);
            first.walk(a, visit);
            second.walk(b, visit);
        }
    }

    fn find(&self, is_it: &dyn Fn(&Group) -> bool) -> Option<&Group> {
        match self {
            Self::Group(group) => is_it(group).then_some(group),
            Self::Split { first, second, .. } => first.find(is_it).or_else(|| second.find(is_it)),
        }
    }

    fn find_mut(&mut self, is_it: &dyn Fn(&Group) -> bool) -> Option<&mut Group> {
        match self {
            Self::Group(group) => is_it(group).then_some(group),
            Self::Split { first, second, .. } => first.find_mut(is_it).or_else(|| second.find_mut(is_it)),
        }
    }

    /// The leaf that holds a group.
    fn subtree(&mut self, group: Id) -> Option<&mut Tree> {
        if matches!(self, Self::Group(g) if g.id == group) {
            return Some(self);
        }
        match self {
            Self::Group(_) => None,
            Self::Split { first, second, .. } => first.subtree(group).or_else(|| second.subtree(group)),
        }
    }

    fn split_mut(&mut self, split: Id) -> Option<&mut Tree> {
        if matches!(self, Self::Split { id, .. } if *id == split) {
            return Some(self);
        }
        match self {
            Self::Group(_) => None,
            Self::Split { first, second, .. } => first.split_mut(split).or_else(|| second.split_mut(split)),
        }
    }

    fn is_empty(&self, keep: &[Id]) -> bool {
        matches!(self, Self::Group(group) if group.tabs.is_empty() && !keep.contains(&group.id))
    }

    /// Takes out splits that have an empty side.
    fn collapse(&mut self, keep: &[Id]) {
        let Self::Split { first, second, .. } = self else { return };
        first.collapse(keep);
        second.collapse(keep);
        let remains = match (first.is_empty(keep), second.is_empty(keep)) {
            (true, _) => second,
            (false, true) => first,
            (false, false) => return,
        };
        let placeholder = Self::Group(Group { id: 0, tabs: Vec::new(), active: None });
        *self = std::mem::replace(remains, placeholder);
    }

    /// Mends what a file may hold; false if names are used twice.
    fn repair(&mut self, seen: &mut Vec<TerminalId>, ids: &mut Vec<Id>) -> bool {
        match self {
            Self::Group(group) => {
                group.tabs.retain(|t| new(seen, *t));
                if group.active.is_none_or(|t| !group.tabs.contains(&t)) {
                    group.active = group.tabs.first().copied();
                }
                new(ids, group.id)
            }
            Self::Split { id, share, first, second, .. } => {
                *share = if share.is_finite() { within(*share, LEAST, 1.0 - LEAST) } else { 0.5 };
                new(ids, *id) && first.repair(seen, ids) && second.repair(seen, ids)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn t(n: u32) -> TerminalId {
        TerminalId(n)
    }

    /// Terminal 1 on the left; 2 above 3 on the right.
    fn three() -> Layout {
        let mut layout = Layout::default();
        layout.sync(&[t(1)], &[]);
        let right = layout.split(0, Axis::Row).unwrap();
        layout.place(t(2), right);
        let below = layout.split(right, Axis::Column).unwrap();
        layout.place(t(3), below);
        layout
    }

    #[test]
    fn splits_share_the_place() {
        let groups = three().groups();
        let tabs: Vec<_> = groups.iter().map(|(g, _)| g.tabs.clone()).collect();
        assert_eq!(tabs, [[t(1)], [t(2)], [t(3)]]);
        assert_eq!(groups[2].1, Rect { x: 0.5, y: 0.5, w: 0.5, h: 0.5 });
        assert_eq!(three().bars().len(), 2);
    }

    #[test]
    fn a_terminal_that_ends_gives_its_place_back() {
        let mut layout = three();
        layout.sync(&[t(1), t(2)], &[]);
        assert_eq!(layout.groups()[1].1, Rect { x: 0.5, y: 0.0, w: 0.5, h: 1.0 });
        layout.sync(&[], &[]);
        assert_eq!(layout.groups().len(), 1);
        assert_eq!(layout.active(), None);
        // A layout without terminals takes the next one.
        layout.sync(&[t(9)], &[]);
        assert_eq!(layout.active(), Some(t(9)));
    }

    #[test]
    fn a_new_terminal_joins_the_focused_group_without_taking_the_screen() {
        let mut layout = three();
        layout.activate(t(2));
        layout.sync(&[t(1), t(2), t(3), t(4)], &[]);
        assert_eq!(layout.group_of(t(4)), layout.group_of(t(2)));
        assert_eq!(layout.active(), Some(t(2)));
    }

    #[test]
    fn a_split_waits_for_its_terminal() {
        let mut layout = three();
        let new = layout.split(0, Axis::Column).unwrap();
        layout.sync(&[t(1), t(2), t(3)], &[new]);
        assert_eq!(layout.groups().len(), 4);
        layout.place(t(4), new);
        layout.sync(&[t(1), t(2), t(3), t(4)], &[]);
        assert_eq!(layout.active(), Some(t(4)));
        assert_eq!(layout.groups().len(), 4);
    }

    #[test]
    fn a_pane_that_is_too_small_is_not_divided() {
        assert_eq!(Size { cols: 0, rows: 0 }.clamped(), SMALLEST);
        let room = Size { cols: 39, rows: 12 };
        assert!(!Axis::Row.divides(room) && Axis::Column.divides(room));
    }

    #[test]
    fn neighbours_are_the_ones_that_touch() {
        let layout = three();
        let group = |n| layout.group_of(t(n)).unwrap();
        assert_eq!(layout.neighbour(group(3), Direction::Up), Some(group(2)));
        assert_eq!(layout.neighbour(group(3), Direction::Left), Some(group(1)));
        assert!([Some(group(2)), Some(group(3))].contains(&layout.neighbour(group(1), Direction::Right)));
        assert_eq!(layout.neighbour(group(1), Direction::Left), None);
        assert_eq!(layout.neighbour(group(2), Direction::Up), None);
    }

    #[test]
    fn shares_stay_usable() {
        let mut layout = three();
        let bar = layout.bars()[0];
        for (asked, got) in [(0.0, LEAST), (2.0, 1.0 - LEAST), (0.3, 0.3), (f64::NAN, 0.3)] {
            layout.set_share(bar.id, asked);
            assert_eq!(layout.bars()[0].share, got);
        }
    }

    #[test]
    fn a_restarted_terminal_keeps_its_place() {
        let mut layout = three();
        layout.replace(t(2), t(7));
        assert_eq!(layout.groups()[1].0.tabs, [t(7)]);
    }

    #[test]
    fn what_was_remembered_comes_back() {
        let layout = three();
        let json = serde_json::to_string(&layout).unwrap();
        assert_eq!(Layout::from_json(&json).unwrap().groups(), layout.groups());
    }

    #[test]
    fn what_was_remembered_is_mended_or_refused() {
        assert!(Layout::from_json("{}").is_none());
        let twice = r#"{"root":{"split":{"id":1,"axis":"row","share":7.5,
            "first":{"group":{"id":0,"tabs":[1,1,2],"active":9}},
            "second":{"group":{"id":2,"tabs":[2],"active":2}}}},"focus":99,"next":0}"#;
        let layout = Layout::from_json(twice).unwrap();
        assert_eq!(layout.groups().len(), 1);
        assert_eq!(layout.groups()[0].0.tabs, [t(1), t(2)]);
        assert_eq!(layout.active(), Some(t(1)));
        assert!(Layout::from_json(&twice.replace("\"id\":2", "\"id\":0")).is_none());
    }

    #[test]
    fn a_narrow_screen_has_everything_in_one_group() {
        let mut layout = three();
        layout.activate(t(2));
        let (group, rect) = layout.one_group();
        assert_eq!(group.tabs, [t(1), t(2), t(3)]);
        assert_eq!(group.active, Some(t(2)));
        assert_eq!(rect, Rect::ALL);
    }
}
