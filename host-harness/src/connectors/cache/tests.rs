//! Entries that are damaged, foreign, of no use any more, or too many.

use super::super::{audit, fixtures, hex};
use super::*;
use sha2::{Digest, Sha256};

const CODE: &[u8] = b"machine code";

fn digest(of: &str) -> String {
    hex(&Sha256::digest(of))
}

fn names() -> Names {
    audit::read(&fixtures::component()).unwrap()
}

fn cache() -> (tempfile::TempDir, Cache, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("a/b");
    let cache = Cache::open(&directory).unwrap();
    cache.put(&digest("component"), &digest("engine"), &names(), CODE).unwrap();
    let path = cache.path(&digest("component"), &digest("engine"));
    (folder, cache, path)
}

fn code(checked: &Checked) -> Vec<u8> {
    match &checked.code {
        Code::Sealed(sealed) => sealed.bytes().unwrap(),
        Code::Plain(bytes) => bytes.clone(),
    }
}

fn get(cache: &Cache) -> io::Result<Option<Checked>> {
    cache.get(&digest("component"), &digest("engine"))
}

#[test]
fn what_was_put_is_got_back_and_nothing_else_is() {
    let (_folder, cache, _) = cache();
    let checked = get(&cache).unwrap().unwrap();
    assert_eq!((code(&checked), &checked.names), (CODE.to_vec(), &names()));
    assert!(cache.get(&digest("other"), &digest("engine")).unwrap().is_none());
    assert!(cache.get(&digest("component"), &digest("other engine")).unwrap().is_none());
    cache.put(&digest("component"), &digest("engine"), &names(), b"again").unwrap();
    assert_eq!(code(&get(&cache).unwrap().unwrap()), b"again");
    let names = fs::read_dir(&cache.directory).unwrap().count();
    assert_eq!(names, 1, "nothing is left aside");
}

#[test]
fn truncated_and_damaged_entries_are_refused() {
    let (_folder, cache, path) = cache();
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(get(&cache).is_err(), "cut at {length}");
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert!(get(&cache).is_err(), "damaged at {at}");
    }
    fs::write(&path, [whole.as_slice(), b"x"].concat()).unwrap();
    assert!(get(&cache).is_err());
    fs::write(&path, &whole).unwrap();
    assert!(get(&cache).unwrap().is_some());
}

#[test]
fn an_entry_under_another_name_is_refused() {
    let (_folder, cache, path) = cache();
    fs::copy(&path, cache.path(&digest("other"), &digest("engine"))).unwrap();
    assert!(cache.get(&digest("other"), &digest("engine")).is_err());
    // A file name holds the beginning of the engine's digest only; the entry holds all of it.
    let alike = format!("{}{}", &digest("engine")[..16], &digest("other engine")[16..]);
    assert!(cache.get(&digest("component"), &alike).is_err());
}

#[cfg(unix)]
#[test]
fn what_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_folder, cache, path) = cache();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&cache.directory), 0o700);
    assert_eq!(mode(&path), 0o600);
    for wrong in [0o620, 0o602, 0o666] {
        fs::set_permissions(&path, fs::Permissions::from_mode(wrong)).unwrap();
        assert!(get(&cache).is_err(), "{wrong:o}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(get(&cache).unwrap().is_some());
    for wrong in [0o770, 0o702, 0o777] {
        fs::set_permissions(&cache.directory, fs::Permissions::from_mode(wrong)).unwrap();
        assert!(Cache::open(&cache.directory).is_err(), "{wrong:o}");
    }
}

#[test]
fn what_is_of_no_use_any_more_goes_when_an_entry_is_written_and_nothing_else_does() {
    let (_folder, cache, path) = cache();
    let old = |path: &Path, days: u64| {
        let time = SystemTime::now() - Duration::from_hours(24 * days);
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    };
    let put = |component: &str, engine: &str| {
        cache.put(&digest(component), &digest(engine), &names(), CODE).unwrap();
        cache.path(&digest(component), &digest(engine))
    };
    let (unused, used, young) = (put("unused", "engine"), put("used", "engine"), put("young", "engine"));
    old(&unused, 31);
    old(&used, 31);
    old(&young, 29);
    assert!(cache.get(&digest("used"), &digest("engine")).unwrap().is_some());
    let others: Vec<PathBuf> = ["notes.txt", "a-b.cwasm", "sub"].map(|name| cache.directory.join(name)).into();
    fs::write(&others[0], "x").unwrap();
    fs::write(&others[1], "x").unwrap();
    fs::create_dir(&others[2]).unwrap();
    others[..2].iter().for_each(|path| old(path, 100));
    put("new", "engine");
    let is_there = |path: &PathBuf| path.exists();
    assert!(!is_there(&unused));
    assert!([&path, &used, &young].into_iter().chain(&others).all(is_there));
    // Another version of the host.
    let new = put("new", "other engine");
    assert!(![&path, &used, &young].into_iter().any(is_there));
    assert!([&new].into_iter().chain(&others).all(is_there));
}

#[test]
fn those_used_least_recently_go_when_all_take_too_much_room_and_the_new_one_never_does() {
    let (_folder, mut cache, first) = cache();
    let size = fs::metadata(&first).unwrap().len();
    let used = |path: &Path, minutes: u64| {
        let time = SystemTime::now() - Duration::from_mins(minutes);
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    };
    let put = |cache: &Cache, component: &str| {
        cache.put(&digest(component), &digest("engine"), &names(), CODE).unwrap();
        cache.path(&digest(component), &digest("engine"))
    };
    let there = |paths: &[&PathBuf]| paths.iter().map(|path| path.exists()).collect::<Vec<_>>();
    // Room for three. Of other files, and of what others are writing, nothing is counted, and nothing goes.
    cache.most = 3 * size;
    let notes = cache.directory.join("notes.txt");
    fs::write(&notes, vec![0; 10_000]).unwrap();
    let (second, third) = (put(&cache, "second"), put(&cache, "third"));
    used(&first, 30);
    used(&second, 20);
    used(&third, 10);
    assert_eq!(there(&[&first, &second, &third]), [true; 3], "they have room");
    // The oldest of them is used now, and the next oldest goes.
    assert!(get(&cache).unwrap().is_some());
    let fourth = put(&cache, "fourth");
    assert_eq!(there(&[&first, &second, &third, &fourth]), [true, false, true, true]);
    // More than one where that is not enough.
    cache.most = 2 * size;
    let fifth = put(&cache, "fifth");
    assert_eq!(there(&[&first, &third, &fourth, &fifth]).iter().filter(|is_there| **is_there).count(), 2);
    assert!(!third.exists() && fifth.exists());
    // However little room there is, and although all others seem to be newer.
    cache.most = 0;
    let sixth = put(&cache, "sixth");
    assert_eq!(there(&[&first, &fourth, &fifth, &sixth, &notes]), [false, false, false, true, true]);
}

#[test]
fn an_entry_that_seems_to_come_from_the_future_does_not_take_the_place_of_the_new_one() {
    let (_folder, mut cache, path) = cache();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(SystemTime::now() + Duration::from_hours(24))
        .unwrap();
    cache.most = fs::metadata(&path).unwrap().len();
    cache.put(&digest("new"), &digest("engine"), &names(), CODE).unwrap();
    assert!(cache.path(&digest("new"), &digest("engine")).exists() && !path.exists());
}

#[test]
fn use_is_noted() {
    let (_folder, cache, path) = cache();
    let before = SystemTime::now() - Duration::from_mins(1);
    File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    get(&cache).unwrap().unwrap();
    assert!(fs::metadata(&path).unwrap().modified().unwrap() > before);
}

#[test]
fn however_small_they_are_there_are_no_more_than_can_be_looked_at() {
    let (_folder, cache, first) = cache();
    let long_ago = SystemTime::now() - Duration::from_hours(1);
    File::options().write(true).open(&first).unwrap().set_modified(long_ago).unwrap();
    for number in 1..MOST_ENTRIES {
        fs::write(cache.path(&digest(&number.to_string()), &digest("engine")), "x").unwrap();
    }
    let count = || fs::read_dir(&cache.directory).unwrap().count();
    assert_eq!((count(), first.exists()), (MOST_ENTRIES, true));
    cache.put(&digest("new"), &digest("engine"), &names(), CODE).unwrap();
    assert_eq!((count(), first.exists()), (MOST_ENTRIES, false));
}

#[test]
fn a_file_in_place_of_the_directory_is_refused() {
    let (_folder, _cache, path) = cache();
    assert!(Cache::open(&path).is_err());
}
