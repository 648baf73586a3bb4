//! Files put into images without a build, as umoci does it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::PathBuf;

use crate::edit::show;
use crate::rig::{Rig, image};

/// An image with a link `lib` to `usr/lib`, and a directory with things in it.
fn furnished(rig: &Rig) -> PathBuf {
    rig.load("base", "x");
    let tree = rig.path("tree");
    fs::create_dir_all(tree.join("usr/lib")).unwrap();
    symlink("usr/lib", tree.join("lib")).unwrap();
    fs::create_dir_all(tree.join("srv")).unwrap();
    fs::write(tree.join("srv/old"), "old").unwrap();
    rig.ok(&format!("insert base {} / -t web", tree.display()));
    let source = rig.path("source");
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::write(source.join("a"), "a").unwrap();
    fs::write(source.join("sub/b"), "b").unwrap();
    source
}

#[test]
fn files_directories_and_deletions_are_inserted() {
    let rig = Rig::new();
    let source = furnished(&rig).display().to_string();
    // Joined with what is there; below the directory that a link leads to, which stays a link.
    rig.ok(&format!("insert web {source} /srv -t joined"));
    assert_eq!(rig.ok("diff web joined"), "C /srv\nA /srv/a\nA /srv/sub\nA /srv/sub/b\n");
    rig.ok(&format!("insert web {source}/a lib/x -t linked"));
    assert_eq!(rig.ok("diff web linked"), "C /usr\nC /usr/lib\nA /usr/lib/x\n");
    rig.ok(&format!("insert --image web {source} /lib -t linked"));
    assert_eq!(
        rig.ok("diff web linked"),
        "C /usr\nC /usr/lib\nA /usr/lib/a\nA /usr/lib/sub\nA /usr/lib/sub/b\n"
    );
    rig.ok(&format!("insert web --opaque {source} /srv -t hidden"));
    assert_eq!(rig.ok("diff web hidden"), "C /srv\nA /srv/a\nD /srv/old\nA /srv/sub\nA /srv/sub/b\n");
    rig.ok("insert web --whiteout /srv/old -t gone");
    assert_eq!(rig.ok("diff web gone"), "C /srv\nD /srv/old\n");
    // Without a tag, the name moves; one layer is added each time.
    rig.ok("insert gone --whiteout /srv --no-history");
    assert_eq!(rig.ok("diff web gone"), "D /srv\n");
    assert_eq!(show(&rig, "gone", "{{len .RootFS.Layers}}"), "4");
    assert_eq!(show(&rig, "gone", "{{len .History}}"), "3");
    rig.verify();
}

#[test]
fn owners_and_history_are_as_told() {
    let rig = Rig::new();
    let source = furnished(&rig);
    chown(source.join("a"), Some(1005), Some(2006)).unwrap();
    let from = source.join("a").display().to_string();
    let owner = |name: &str| {
        let dir = rig.path("b");
        rig.ok(&format!("bundle {name} {}", dir.display()));
        let meta = fs::metadata(dir.join("rootfs/a")).unwrap();
        rig.ok(&format!("unbundle {}", dir.display()));
        (meta.uid(), meta.gid())
    };
    rig.ok(&format!("insert web {from} /a -t kept"));
    assert_eq!(owner("kept"), (1005, 2006));
    rig.ok(&format!("insert web {from} /a -t root --rootless"));
    assert_eq!(owner("root"), (0, 0));
    rig.ok(&format!("insert web {from} /a -t mapped --uid-map 0:1000:10 --gid-map 100:2000:10"));
    assert_eq!(owner("mapped"), (5, 106));
    let told = rig.fails(&format!("insert web {from} /a --uid-map 0:1000:10"), 1);
    assert!(told.contains("group 2006 is in no id map"), "{told}");
    rig.ok(&format!(
        "insert web {from} /a -t told --history.author me --history.comment why --history.created_by how \
         --history.created 2020-01-02T03:04:05Z"
    ));
    let history = show(&rig, "told", "{{json .History}}");
    let want = r#"{"author":"me","comment":"why","created":"2020-01-02T03:04:05Z","created_by":"how"}]"#;
    assert!(history.ends_with(want), "{history}");
}

#[test]
fn what_cannot_be_inserted_is_refused() {
    let rig = Rig::new();
    let source = furnished(&rig);
    let from = source.display();
    fs::write(source.join("sub/.wh.x"), "").unwrap();
    let before = rig.blobs();
    for (arguments, code, words) in [
        (format!("insert web {from} /srv"), 1, "mean deletions"),
        (format!("insert web {from}/a /srv/.wh.y"), 2, "mean deletions"),
        (format!("insert web {from}/a /"), 2, "only a directory"),
        (format!("insert web {from}/a /srv --opaque"), 2, "takes a directory"),
        ("insert web --whiteout /..".into(), 2, "root of an image"),
        (format!("insert web {from}/nothing /srv"), 3, "does not exist"),
        (format!("insert nosuch {from} /srv"), 3, "no such image"),
        ("insert web /srv".into(), 2, "a source and a target"),
        (format!("insert web --whiteout {from} /srv"), 2, "one path"),
    ] {
        let told = rig.fails(&arguments, code);
        assert!(told.contains(words), "{arguments}: {told}");
    }
    assert_eq!(rig.blobs(), before);
    assert!(rig.partials().is_empty());
}

#[test]
fn names_are_taken_away_and_the_image_stays() {
    let rig = Rig::new();
    let id = rig.load("web", "x");
    rig.ok("tag web web:2 other:3");
    rig.ok("untag web web:2");
    assert!(rig.fails("untag web web:2", 3).contains("has no name web:2"));
    assert!(rig.fails("untag nosuch", 3).contains("no such image"));
    rig.ok("untag web");
    rig.fails("inspect other:3", 3);
    assert_eq!(rig.ok("images -q --no-trunc -f dangling=true").trim(), id);
    rig.ok(&format!("tag {} web", &id[7..19]));
    assert_eq!(rig.ok("inspect web -f {{.Id}}").trim(), id);
}

#[test]
fn a_tree_shows_whose_topmost_each_layer_is() {
    let rig = Rig::new();
    rig.load("base", "x");
    for (name, on) in [("left", "base"), ("right", "base"), ("leaf", "left")] {
        let file = rig.path(&format!("{name}.tar"));
        fs::write(&file, image::tar(&[(name, name.as_bytes())])).unwrap();
        rig.ok(&format!("append {on} {} -t {name}", file.display()));
    }
    rig.ok("tag leaf leaf:again");
    let plain = |text: String| {
        let line = |line: &str| match line.split_once("ID: ") {
            Some((mark, rest)) => format!("{mark}{}", rest.split_once(' ').map_or("", |(_, rest)| rest)),
            None => line.to_owned(),
        };
        text.lines().map(line).collect::<Vec<String>>()
    };
    assert_eq!(
        plain(rig.ok("tree leaf"))[1..],
        [
            "Tags:     [leaf:latest leaf:again]",
            "Size:     9B",
            "Image Layers",
            "├── Size: 1B Top Layer of: [base:latest]",
            "├── Size: 4B Top Layer of: [left:latest]",
            "└── Size: 4B Top Layer of: [leaf:again leaf:latest]",
        ]
    );
    let tree = plain(rig.ok("tree --whatrequires base"))[4..].join("\n");
    for line in
        ["└── Size: 1B Top Layer of: [base:latest]\n    ├── ", "Size: 5B Top Layer of: [right:latest]"]
    {
        assert!(tree.contains(line), "{tree}");
    }
    assert!(tree.contains("── Size: 4B Top Layer of: [leaf:again leaf:latest]"), "{tree}");
    rig.fails("tree nosuch", 3);
}
