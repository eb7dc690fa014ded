//! Snapshots: a checkpoint of the tables and the position it stands at.
//!
//! A snapshot directory holds `tables/` (hard links into the live tables, which RocksDB never changes)
//! and, written last, `MANIFEST`. Messages do not belong to it: they stay in the commit log, and a
//! transfer sends the frames the receiver lacks beside the files (`network::snapshot`).
//!
//! Not here: when to build one (retention asks before it lets Raft forget entries).

mod incoming;

use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use openraft::RaftSnapshotBuilder;
use openraft::alias::SnapshotMetaOf;
use openraft::alias::SnapshotOf;
use prost::Message;
use raftmq_proto::raftmq as wire;

pub use self::incoming::Incoming;
pub(crate) use self::incoming::IncomingTransfer;
use crate::commit_log::LogPosition;
use crate::state::StateStore;
use crate::types;
use crate::types::StoredMembership;
use crate::types::TypeConfig;
use crate::world::fs;
use crate::world::fs::File;

const MANIFEST: &str = "MANIFEST";
const TABLES: &str = "tables";

/// A complete snapshot on disk.
#[derive(Clone, Debug)]
pub struct SnapshotFiles {
    pub(crate) directory: PathBuf,
    pub(crate) manifest: wire::SnapshotManifest,
}

impl SnapshotFiles {
    /// Where the file `name` of the checkpoint lies.
    pub(crate) fn table_path(&self, name: &str) -> PathBuf {
        self.directory.join(TABLES).join(name)
    }

    pub(crate) fn meta(&self) -> io::Result<SnapshotMetaOf<TypeConfig>> {
        let membership = self.manifest.membership.clone().unwrap_or_default();
        Ok(SnapshotMetaOf::<TypeConfig> {
            last_log_id: self.manifest.last_log_id.map(types::log_id_from_wire),
            last_membership: types::stored_membership_from_wire(membership)?,
        })
    }

    /// The snapshot in `directory`, or `None` when it is not complete.
    pub(crate) fn load(directory: &Path) -> io::Result<Option<Self>> {
        let bytes = match fs::read(directory.join(MANIFEST)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let manifest = wire::SnapshotManifest::decode(&bytes[..]).map_err(io::Error::other)?;
        Ok(Some(Self { directory: directory.to_owned(), manifest }))
    }

    /// A second copy of the tables that may be opened and changed, in the new directory `to`.
    ///
    /// Table files are linked, since RocksDB only adds and removes them; the others are copied, since
    /// it appends to them.
    fn clone_tables(&self, to: &Path) -> io::Result<()> {
        remove_if_there(to)?;
        fs::create_dir_all(to)?;
        for file in &self.manifest.files {
            let from = self.table_path(&file.name);
            let to = to.join(&file.name);
            if file.name.ends_with(".sst") {
                fs::hard_link(from, to)?;
            } else {
                fs::copy(from, &to)?;
                File::open(to)?.sync_all()?;
            }
        }
        File::open(to)?.sync_all()
    }
}

/// The directory of complete snapshots. At most one is kept.
#[derive(Clone, Debug)]
pub struct SnapshotDirectory {
    directory: PathBuf,
}

impl SnapshotDirectory {
    /// Uses `directory`, made if missing.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        Ok(Self { directory })
    }

    /// The newest complete snapshot.
    pub(crate) fn current(&self) -> io::Result<Option<SnapshotOf<TypeConfig, SnapshotFiles>>> {
        let mut newest: Option<SnapshotFiles> = None;
        for item in fs::read_dir(&self.directory)? {
            let path = item?.path();
            if is_building(&path) {
                continue;
            }
            if let Some(files) = SnapshotFiles::load(&path)? {
                let index = |files: &SnapshotFiles| files.manifest.last_log_id.map(|id| id.index);
                if newest.as_ref().is_none_or(|other| index(other) < index(&files)) {
                    newest = Some(files);
                }
            }
        }
        newest
            .map(|files| Ok(SnapshotOf::<TypeConfig, _> { meta: files.meta()?, snapshot: files }))
            .transpose()
    }

    /// Freezes the tables as they are now; the returned builder does the slow rest.
    pub(crate) fn builder(
        &self,
        store: &StateStore,
        last: Option<LogPosition>,
        membership: &StoredMembership,
    ) -> SnapshotBuilder {
        let building = self.directory.join("building");
        let frozen = (|| {
            remove_if_there(&building)?;
            fs::create_dir_all(&building)?;
            store.checkpoint(&building.join(TABLES))
        })();
        let manifest = wire::SnapshotManifest {
            last_log_id: last.map(|last| wire::LogId { term: last.term, index: last.index }),
            membership: Some(types::stored_membership_to_wire(membership)),
            files: Vec::new(),
        };
        SnapshotBuilder { snapshots: self.clone(), building, frozen: Some(frozen), manifest }
    }

    /// Keeps `files` as the current snapshot, linking what lies elsewhere.
    pub(crate) fn keep(&self, files: &SnapshotFiles) -> io::Result<SnapshotFiles> {
        let target = self.directory.join(name_of(&files.manifest));
        if files.directory != target {
            let building = self.directory.join("building-kept");
            remove_if_there(&building)?;
            fs::create_dir_all(building.join(TABLES))?;
            for file in &files.manifest.files {
                let to = building.join(TABLES).join(&file.name);
                fs::hard_link(files.table_path(&file.name), to)?;
            }
            write_durably(&building.join(MANIFEST), &files.manifest.encode_to_vec())?;
            self.publish(&building, &target)?;
        }
        self.remove_all_but(&target)?;
        Ok(SnapshotFiles { directory: target, manifest: files.manifest.clone() })
    }

    /// Makes the tables of `files` ready to be opened, beside the live ones.
    pub(crate) fn prepare_tables(&self, files: &SnapshotFiles) -> io::Result<PathBuf> {
        let tables = self.directory.join("building-tables");
        files.clone_tables(&tables)?;
        Ok(tables)
    }

    fn publish(&self, building: &Path, target: &Path) -> io::Result<()> {
        remove_if_there(target)?;
        fs::rename(building, target)?;
        File::open(&self.directory)?.sync_all()
    }

    fn remove_all_but(&self, kept: &Path) -> io::Result<()> {
        for item in fs::read_dir(&self.directory)? {
            let path = item?.path();
            if path != kept && !is_building(&path) {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }
}

/// Finishes a snapshot: checksums, manifest, name.
pub struct SnapshotBuilder {
    snapshots: SnapshotDirectory,
    building: PathBuf,
    frozen: Option<io::Result<()>>,
    manifest: wire::SnapshotManifest,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFiles;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, SnapshotFiles>> {
        match self.frozen.take() {
            Some(result) => result?,
            None => return Err(io::Error::other("a snapshot is built once")),
        }
        self.manifest.files = table_files(&self.building.join(TABLES))?;
        write_durably(&self.building.join(MANIFEST), &self.manifest.encode_to_vec())?;
        let target = self.snapshots.directory.join(name_of(&self.manifest));
        self.snapshots.publish(&self.building, &target)?;
        self.snapshots.remove_all_but(&target)?;
        metrics::counter!("raftmq_snapshots_built_total").increment(1);
        let files = SnapshotFiles { directory: target, manifest: self.manifest.clone() };
        Ok(SnapshotOf::<TypeConfig, _> { meta: files.meta()?, snapshot: files })
    }
}

/// Names, sizes and checksums of the files of a checkpoint, sorted by name.
fn table_files(directory: &Path) -> io::Result<Vec<wire::SnapshotFile>> {
    let mut files = Vec::new();
    for item in fs::read_dir(directory)? {
        let item = item?;
        let name = item.file_name().to_string_lossy().into_owned();
        let (size_bytes, crc32c) = checksum(&item.path())?;
        files.push(wire::SnapshotFile { name, size_bytes, crc32c });
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

/// Size and CRC32C of a file.
fn checksum(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let (mut size, mut crc) = (0, 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, crc));
        }
        size += read as u64;
        crc = crc32c::crc32c_append(crc, &buffer[..read]);
    }
}

fn name_of(manifest: &wire::SnapshotManifest) -> String {
    match manifest.last_log_id {
        Some(id) => format!("{:010}-{:020}", id.term, id.index),
        None => "empty".to_owned(),
    }
}

fn is_building(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("building"))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
