//! Answers that take a pass over a large table: it is made in portions, one for each turn of the
//! control thread, while the table changes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use std::vec;

use serde::Serialize;

use crate::api::message::ApiError;

/// Time of one portion, so that other clients, sessions and workers' events are served in between.
const PORTION: Duration = Duration::from_millis(2);

/// Entries between two looks at the clock.
const ENTRIES: u32 = 128;

/// Entries that take as long as one row: to read it, and to write it as text.
const ROW: u32 = 16;

/// The time of one portion.
#[derive(Debug)]
pub(super) struct Portion {
    until: Instant,
    entries: u32,
}

impl Portion {
    pub(super) fn begin() -> Self {
        Self {
            until: Instant::now() + PORTION,
            entries: 0,
        }
    }

    /// Counts an entry. True once the time is over.
    pub(super) fn is_over(&mut self) -> bool {
        self.count(1)
    }

    /// Counts a row that was written. True once the time is over.
    fn is_over_with_row(&mut self) -> bool {
        self.count(ROW)
    }

    fn count(&mut self, entries: u32) -> bool {
        self.entries += entries;
        if self.entries < ENTRIES {
            return false;
        }
        self.entries = 0;
        self.is_over_now()
    }

    pub(super) fn is_over_now(&self) -> bool {
        Instant::now() >= self.until
    }
}

/// Collects the rows with the `limit` smallest keys, and records whether there were more. A key that
/// is offered again counts once.
#[derive(Debug)]
pub(super) struct Page<K, T> {
    limit: usize,
    /// At most `limit` + 1.
    smallest: BTreeMap<K, T>,
}

impl<K: Ord, T> Page<K, T> {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit,
            smallest: BTreeMap::new(),
        }
    }

    /// Offers a row.
    pub(super) fn offer(&mut self, key: K, value: T) {
        if !self.is_complete() {
            self.smallest.insert(key, value);
        } else if self
            .smallest
            .last_key_value()
            .is_some_and(|(last, _)| key < *last)
            && self.smallest.insert(key, value).is_none()
        {
            self.smallest.pop_last();
        }
    }

    /// True if only smaller keys than those offered so far can change the page.
    pub(super) fn is_complete(&self) -> bool {
        self.smallest.len() > self.limit
    }

    /// The rows in order, and whether more follow.
    pub(super) fn finish(&mut self) -> (Vec<(K, T)>, bool) {
        let more = self.is_complete();
        let rows = std::mem::take(&mut self.smallest);
        (rows.into_iter().take(self.limit).collect(), more)
    }
}

/// The rows of a page as JSON, in the form of [`crate::api::show::Rows`].
#[derive(Debug)]
pub(super) struct PageText {
    text: Vec<u8>,
    rows: usize,
}

impl Default for PageText {
    fn default() -> Self {
        Self {
            text: br#"{"rows":["#.to_vec(),
            rows: 0,
        }
    }
}

impl PageText {
    /// Appends a row.
    pub(super) fn push(&mut self, row: &impl Serialize) -> Result<(), ApiError> {
        if self.rows > 0 {
            self.text.push(b',');
        }
        self.rows += 1;
        serde_json::to_writer(&mut self.text, row).map_err(refused)
    }

    /// The number of rows.
    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    /// The page, which is empty then. `next`: the cursor of the next one.
    pub(super) fn finish(&mut self, next: Option<&str>) -> Result<String, ApiError> {
        let mut text = std::mem::take(self).text;
        text.extend_from_slice(br#"],"next":"#);
        serde_json::to_writer(&mut text, &next).map_err(refused)?;
        text.push(b'}');
        String::from_utf8(text).map_err(refused)
    }
}

/// Rows that can't be written: they have no maps with keys other than strings.
fn refused(error: impl ToString) -> ApiError {
    ApiError::refused(error.to_string())
}

/// The places of the rows of a page, which are written in portions.
#[derive(Debug)]
pub(super) struct FoundRows<P> {
    places: vec::IntoIter<P>,
    next: Option<String>,
    page: PageText,
}

impl<P> FoundRows<P> {
    /// `next`: the cursor of the next page.
    pub(super) fn new(places: Vec<P>, next: Option<String>) -> Self {
        Self {
            places: places.into_iter(),
            next,
            page: PageText::default(),
        }
    }

    /// True if the page has no rows.
    pub(super) const fn is_empty(&self) -> bool {
        self.page.rows() == 0
    }

    /// Writes rows until the time is over; a place without a row is left out. True once all are
    /// written.
    pub(super) fn write<T: Serialize>(
        &mut self,
        portion: &mut Portion,
        row: impl Fn(P) -> Option<T>,
    ) -> Result<bool, ApiError> {
        for place in self.places.by_ref() {
            if let Some(row) = row(place) {
                self.page.push(&row)?;
            }
            if portion.is_over_with_row() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The page, once all rows are written.
    pub(super) fn finish(&mut self) -> Result<String, ApiError> {
        self.page.finish(self.next.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_written_in_portions() {
        let mut found = FoundRows::new((0..1000_u32).collect(), Some("x\"y".to_owned()));
        let over = || Portion {
            until: Instant::now(),
            entries: 0,
        };
        let even = |place: u32| place.is_multiple_of(2).then_some(place);
        let mut portions = 1;
        while !found.write(&mut over(), even).unwrap() {
            portions += 1;
        }
        assert!(portions > 1000 / (ENTRIES / ROW), "{portions}");
        let page: crate::api::show::Rows<u32> =
            serde_json::from_str(&found.finish().unwrap()).unwrap();
        assert!(page.rows.into_iter().eq((0..1000).step_by(2)));
        assert_eq!(page.next.as_deref(), Some("x\"y"));
        let empty = PageText::default().finish(None).unwrap();
        assert_eq!(empty, r#"{"rows":[],"next":null}"#);
    }

    #[test]
    fn pages_are_the_table_in_order() {
        let table: Vec<u32> = (0..1000).map(|n| n * 7919 % 1000).collect();
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let mut page = Page::new(64);
            let twice = table.iter().chain(&table);
            for key in twice.filter(|key| after.is_none_or(|after| **key > after)) {
                page.offer(*key, *key * 2);
            }
            let (rows, more) = page.finish();
            after = rows.last().map(|row| row.0);
            all.extend(rows);
            if !more {
                break;
            }
        }
        assert_eq!(all, (0..1000).map(|n| (n, n * 2)).collect::<Vec<_>>());
    }
}
