//! Facts about the Connect CA.

use super::*;

fn authority(now: SystemTime, index: &mut Index) -> Authority {
    Authority::new("dc1", Duration::from_secs(3600), 2, now, index).unwrap()
}

#[test]
fn a_leaf_stays_the_same_until_two_thirds_of_its_life_are_over() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let mut index = Index::new();
    let mut ca = authority(now, &mut index);
    let first = ca.leaf("web", now, &mut index).unwrap().json();
    let later = now + Duration::from_secs(2300);
    assert_eq!(ca.leaf("web", later, &mut index).unwrap().json(), first);
    let late = now + Duration::from_secs(2400);
    assert_ne!(ca.leaf("web", late, &mut index).unwrap().json(), first);
}

#[test]
fn a_rotation_lists_both_roots_and_issues_leaves_again() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let mut index = Index::new();
    let mut ca = authority(now, &mut index);
    let leaf = ca.leaf("web", now, &mut index).unwrap().clone();
    let before = ca.roots_json();
    ca.rotate(now, &mut index).unwrap();
    let after = ca.roots_json();
    assert_eq!(after["Roots"].as_array().unwrap().len(), 2);
    assert_eq!(after["Roots"][0]["Active"], false);
    assert_eq!(after["Roots"][1]["Active"], true);
    assert_ne!(before["ActiveRootID"], after["ActiveRootID"]);
    assert_eq!(before["TrustDomain"], after["TrustDomain"]);
    assert!(ca.leaf("web", now, &mut index).unwrap().index() > leaf.index());
}

#[test]
fn leaves_are_bounded() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let mut index = Index::new();
    let mut ca = authority(now, &mut index);
    ca.leaf("a", now, &mut index).unwrap();
    ca.leaf("b", now, &mut index).unwrap();
    assert!(ca.leaf("c", now, &mut index).is_err());
}
