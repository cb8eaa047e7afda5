//! Numbers of the groups (rows of one modality and the same tags) of an index being written.

use std::collections::HashMap;

use crate::index::Reader;
use crate::index::batch::NewRow;
use crate::index::tags::Group;

/// Every group by its content.
#[derive(Debug)]
pub(super) struct Groups(HashMap<Group, u32>);

impl Groups {
    /// Those of an index on the disk.
    pub(super) fn of(reader: &Reader) -> Self {
        let numbers = 0..reader.log.groups() as u32;
        // Of two equal groups the first counts.
        Self(numbers.rev().filter_map(|number| Some((reader.log.group(number)?, number))).collect())
    }

    /// The group number of each row, and the groups that are new, in the order in which they are
    /// to be entered.
    pub(super) fn number(&self, rows: &[NewRow<'_>]) -> (Vec<u32>, Vec<Group>) {
        let mut new: Vec<Group> = Vec::new();
        let mut fresh: HashMap<Group, u32> = HashMap::new();
        let mut numbers: Vec<u32> = Vec::with_capacity(rows.len());
        for (at, row) in rows.iter().enumerate() {
            let same =
                |before: &NewRow<'_>| before.modality == row.modality && before.tags == row.tags;
            if at > 0 && same(&rows[at - 1]) {
                numbers.push(numbers[at - 1]);
                continue;
            }
            let group = Group { modality: row.modality, tags: row.tags.clone() };
            let known = self.0.get(&group).or_else(|| fresh.get(&group)).copied();
            numbers.push(known.unwrap_or_else(|| {
                let number = (self.0.len() + new.len()) as u32;
                fresh.insert(group.clone(), number);
                new.push(group);
                number
            }));
        }
        (numbers, new)
    }

    /// Gives a new group the next number.
    pub(super) fn enter(&mut self, group: Group) {
        let number = self.0.len() as u32;
        self.0.insert(group, number);
    }
}
