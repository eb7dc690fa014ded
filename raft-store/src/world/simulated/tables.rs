//! The tables as an ordered map in memory, with one file on the simulated disk.
//!
//! Like RocksDB without a write-ahead log: what was written since the last flush is lost with the
//! process, all of it or nothing, and chance decides when it flushes by itself.

use std::collections::BTreeMap;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use parking_lot::RwLock;

use super::draw;
use super::fs;

/// Never changed, only replaced: snapshots link to it.
const FILE: &str = "tables.sst";
/// One write in this many flushes.
const FLUSH_ONCE_IN: u64 = 150;

pub(crate) struct Tables {
    directory: PathBuf,
    map: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
}

#[derive(Default)]
pub(crate) struct Writes(Vec<Change>);

enum Change {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
}

impl Writes {
    pub(crate) fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.0.push(Change::Put(key.as_ref().to_vec(), value.as_ref().to_vec()));
    }

    pub(crate) fn delete(&mut self, key: impl AsRef<[u8]>) {
        self.0.push(Change::Delete(key.as_ref().to_vec()));
    }

    pub(crate) fn delete_range(&mut self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) {
        self.0.push(Change::DeleteRange(from.as_ref().to_vec(), to.as_ref().to_vec()));
    }
}

impl Tables {
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let map = match fs::read(directory.join(FILE)) {
            Ok(bytes) => decode(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { directory: directory.to_owned(), map: RwLock::new(map) })
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.map.read().get(key).cloned()
    }

    pub(crate) fn scan(&self, from: &[u8], to: &[u8], mut visit: impl FnMut(&[u8], &[u8]) -> bool) {
        if from >= to {
            return;
        }
        for (key, value) in self.map.read().range(from.to_vec()..to.to_vec()) {
            if !visit(key, value) {
                return;
            }
        }
    }

    pub(crate) fn last(&self, from: &[u8], to: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        if from >= to {
            return None;
        }
        let map = self.map.read();
        let (key, value) = map.range(from.to_vec()..to.to_vec()).next_back()?;
        Some((key.clone(), value.clone()))
    }

    pub(crate) fn write(&self, writes: Writes) -> io::Result<()> {
        {
            let mut map = self.map.write();
            for change in writes.0 {
                match change {
                    Change::Put(key, value) => drop(map.insert(key, value)),
                    Change::Delete(key) => drop(map.remove(&key)),
                    Change::DeleteRange(from, to) if from < to => {
                        let keys: Vec<_> =
                            map.range(from..to).map(|(key, _)| key.clone()).collect();
                        keys.iter().for_each(|key| drop(map.remove(key)));
                    }
                    Change::DeleteRange(..) => (),
                }
            }
        }
        if draw().once_in(FLUSH_ONCE_IN) {
            self.flush()?;
        }
        Ok(())
    }

    pub(crate) fn checkpoint(&self, to: &Path) -> io::Result<()> {
        self.flush()?;
        fs::create_dir_all(to)?;
        fs::hard_link(self.directory.join(FILE), to.join(FILE))?;
        fs::File::open(to)?.sync_all()
    }

    /// Nothing here flushes beside what goes on.
    pub(crate) fn flush_soon(&self) -> io::Result<()> {
        self.flush()
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        let temporary = self.directory.join("tables.new");
        let mut file = fs::File::create(&temporary)?;
        file.write_all(&encode(&self.map.read()))?;
        file.sync_all()?;
        fs::rename(&temporary, self.directory.join(FILE))?;
        fs::File::open(&self.directory)?.sync_all()
    }
}

fn encode(map: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in map {
        for part in [key, value] {
            bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
            bytes.extend_from_slice(part);
        }
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut map = BTreeMap::new();
    while !bytes.is_empty() {
        let key = part(&mut bytes)?;
        map.insert(key, part(&mut bytes)?);
    }
    Ok(map)
}

fn part(bytes: &mut &[u8]) -> io::Result<Vec<u8>> {
    let damaged = || io::Error::other("the simulated tables are damaged");
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (part, rest) = rest.split_at_checked(length).ok_or_else(damaged)?;
    *bytes = rest;
    Ok(part.to_vec())
}
