//! The VMs there are, in the three ways in which they are looked for: by id, by name, by age. None of
//! them looks at every VM.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use super::record::VmRecord;
use crate::id::{VmId, VmName};

/// VMs with a value for each.
#[derive(Debug)]
pub(super) struct Roster<T> {
    by_id: BTreeMap<VmId, Entry<T>>,
    by_name: HashMap<VmName, VmId>,
    /// Oldest first, under the cursors of pages.
    by_age: BTreeMap<String, T>,
}

/// One VM.
#[derive(Debug)]
pub(super) struct Entry<T> {
    /// Its name, which is for life.
    pub(super) name: VmName,
    /// The cursor that stands after it.
    cursor: String,
    /// What it was entered with.
    pub(super) value: T,
}

impl<T> Default for Roster<T> {
    fn default() -> Self {
        Self { by_id: BTreeMap::new(), by_name: HashMap::new(), by_age: BTreeMap::new() }
    }
}

impl<T: Clone> Roster<T> {
    /// Enters a VM.
    pub(super) fn insert(&mut self, vm: &VmRecord, value: T) {
        let cursor = format!("{}/{}", vm.created_at, vm.id);
        self.by_name.insert(vm.name.clone(), vm.id.clone());
        self.by_age.insert(cursor.clone(), value.clone());
        self.by_id.insert(vm.id.clone(), Entry { name: vm.name.clone(), cursor, value });
    }

    /// Takes a VM out. Says whether it was in.
    pub(super) fn remove(&mut self, vm: &VmId) -> bool {
        let Some(entry) = self.by_id.remove(vm) else {
            return false;
        };
        self.by_age.remove(&entry.cursor);
        // A name is free as soon as its row is gone, so that another VM may have it by now.
        if self.by_name.get(&entry.name) == Some(vm) {
            self.by_name.remove(&entry.name);
        }
        true
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The VM with this very id.
    pub(super) fn with_id(&self, id: &str) -> Option<&T> {
        self.by_id.get(id).map(|entry| &entry.value)
    }

    /// The VM of this name.
    pub(super) fn named(&self, name: &str) -> Option<&T> {
        self.by_name.get(name).and_then(|id| self.with_id(id.as_str()))
    }

    /// The VMs whose ids begin so, in the order of their ids.
    pub(super) fn with_prefix<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a VmId, &'a Entry<T>)> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.by_id.range::<str, _>(from).take_while(move |(id, _)| id.as_str().starts_with(prefix))
    }

    /// At most so many VMs after a cursor, oldest first, and the cursor after the last of them if there
    /// are more. A cursor outlives the VM it names.
    pub(super) fn page(&self, after: Option<&str>, limit: usize) -> (Vec<T>, Option<String>) {
        let from = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let mut rest = self.by_age.range::<str, _>(from);
        let mut last = None;
        let page = rest.by_ref().take(limit).map(|(cursor, value)| {
            last = Some(cursor);
            value.clone()
        });
        let page = page.collect();
        (page, last.filter(|_| rest.next().is_some()).cloned())
    }
}
