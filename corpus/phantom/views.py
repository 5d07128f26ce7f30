"""The views of the phantom corpus, ways of looking at a part of the body, and what is found there.

How a view is drawn stands in the drawing modules; here stands what is listed for it, how often each
finding occurs, the concepts that a finding stands for, and what a caption says of it. The chances
leave about a fifth of the ninety concepts with fewer than six training images in a corpus of 600,
and three to six with none.
"""

from core.categories import Category
from corpus.phantom.scenes import Finding, FindingKind, Scene, View

CONSTANT: dict[Category, tuple[str, ...]] = {
    Category.DRAN: ("angiogram",),
    Category.DRCO: (),
    Category.DRCT: ("ct", "emission tomography"),
    Category.DRMR: ("mri",),
    Category.DRPE: ("pet",),
    Category.DRUS: ("ultrasound",),
    Category.DRXR: ("x-ray procedure",),
}
"""Concepts of every image of a category, as in the task's training set of 2020."""

XR = ("x-ray procedure", "plain x-ray")

VIEWS: dict[str, View] = {
    "ct head": View(
        category=Category.DRCT,
        share=0.28,
        lists=(*CONSTANT[Category.DRCT], "head", "brain", "axial"),
        findings={
            "hemorrhage": 0.32,
            "infarction": 0.25,
            "subdural": 0.25,
            "hydrocephalus": 0.25,
            "calcification": 0.15,
            "skull fracture": 0.08,
            "pellet": 0.12,
        },
        aspect=(0.8, 0.9),
    ),
    "ct chest": View(
        category=Category.DRCT,
        share=0.38,
        lists=(*CONSTANT[Category.DRCT], "chest", "lung", "axial"),
        findings={
            "contrast": 0.40,
            "nodule": 0.35,
            "effusion": 0.35,
            "consolidation": 0.28,
            "pneumothorax": 0.22,
            "aortic aneurysm": 0.08,
            "emphysema": 0.06,
            "pericardial": 0.05,
        },
    ),
    "ct abdomen": View(
        category=Category.DRCT,
        share=0.26,
        lists=(*CONSTANT[Category.DRCT], "abdomen", "liver", "axial"),
        findings={
            "contrast": 0.45,
            "cyst": 0.35,
            "metastases": 0.30,
            "ascites": 0.25,
            "hydronephrosis": 0.12,
            "abdominal aneurysm": 0.10,
            "gallstones": 0.06,
        },
    ),
    "ct pelvis": View(
        category=Category.DRCT,
        share=0.08,
        lists=(*CONSTANT[Category.DRCT], "pelvis", "bladder", "axial"),
        findings={"streaks": 0.50, "tumour": 0.30, "pellet": 0.15},
    ),
    "mr brain": View(
        category=Category.DRMR,
        share=0.55,
        lists=("mri", "head", "brain", "axial"),
        findings={
            "t2": 0.45,
            "contrast": 0.30,
            "meningioma": 0.22,
            "glioma": 0.28,
            "sclerosis": 0.22,
            "hydrocephalus": 0.20,
            "infarction": 0.15,
            "cyst": 0.12,
        },
        aspect=(0.8, 0.9),
    ),
    "mr head": View(
        category=Category.DRMR,
        share=0.20,
        lists=("mri", "head", "brain", "sagittal", "corpus callosum"),
        findings={"meningioma": 0.30, "hydrocephalus": 0.25, "agenesis": 0.40},
        aspect=(0.9, 1.05),
    ),
    "mr spine": View(
        category=Category.DRMR,
        share=0.25,
        lists=("mri", "spine", "spinal cord", "sagittal"),
        findings={"t2": 0.50, "disc": 0.45, "fracture": 0.35, "metastases": 0.25},
        aspect=(0.6, 0.8),
    ),
    "us gallbladder": View(
        category=Category.DRUS,
        share=0.36,
        lists=("ultrasound", "abdomen", "liver", "gallbladder"),
        findings={"gallstones": 0.50, "metastases": 0.25, "ascites": 0.25},
    ),
    "us kidney": View(
        category=Category.DRUS,
        share=0.22,
        lists=("ultrasound", "abdomen", "kidney"),
        findings={"cyst": 0.40, "hydronephrosis": 0.40, "doppler": 0.25},
    ),
    "us fetus": View(
        category=Category.DRUS,
        share=0.16,
        lists=("ultrasound", "fetus", "pregnancy"),
        findings={"hydrocephalus": 0.30},
    ),
    "us thyroid": View(
        category=Category.DRUS,
        share=0.14,
        lists=("ultrasound", "thyroid", "neck"),
        findings={"nodule": 0.50, "cyst": 0.30, "doppler": 0.35},
    ),
    "us heart": View(
        category=Category.DRUS,
        share=0.12,
        lists=("ultrasound", "echocardiography", "heart"),
        findings={"pericardial": 0.40, "doppler": 0.40},
    ),
    "xr chest": View(
        category=Category.DRXR,
        share=0.56,
        lists=(*XR, "chest", "lung", "postero-anterior"),
        findings={
            "cardiomegaly": 0.28,
            "effusion": 0.28,
            "consolidation": 0.25,
            "pneumothorax": 0.20,
            "nodule": 0.25,
            "pacemaker": 0.22,
            "catheter": 0.18,
            "scoliosis": 0.06,
            "situs inversus": 0.15,
        },
        aspect=(0.9, 1.1),
    ),
    "xr hand": View(
        category=Category.DRXR,
        share=0.16,
        lists=(*XR, "hand", "upper extremity"),
        findings={"fracture": 0.45, "plate": 0.20, "pellet": 0.15},
        aspect=(0.7, 0.85),
    ),
    "xr knee": View(
        category=Category.DRXR,
        share=0.16,
        lists=(*XR, "knee", "lower extremity"),
        findings={"fracture": 0.35, "plate": 0.45},
        aspect=(0.6, 0.8),
    ),
    "xr pelvis": View(
        category=Category.DRXR,
        share=0.12,
        lists=(*XR, "pelvis"),
        findings={"streaks": 0.50, "fracture": 0.20},
    ),
    "an left coronary": View(
        category=Category.DRAN,
        share=0.36,
        lists=("angiogram", "coronary angiography", "coronary artery", "left anterior descending"),
        findings={"obstruction": 0.20, "stenosis": 0.50, "stent": 0.08, "catheter": 0.45},
        aspect=(1.0, 1.0),
    ),
    "an right coronary": View(
        category=Category.DRAN,
        share=0.26,
        lists=("angiogram", "coronary angiography", "coronary artery", "right coronary artery"),
        findings={"obstruction": 0.20, "stenosis": 0.50, "catheter": 0.45},
        aspect=(1.0, 1.0),
    ),
    "an brain": View(
        category=Category.DRAN,
        share=0.26,
        lists=("angiogram", "vessels", "head", "contrast"),
        findings={"aneurysm": 0.50, "malformation": 0.15, "subtraction": 0.60},
        aspect=(0.9, 1.1),
    ),
    "an leg": View(
        category=Category.DRAN,
        share=0.12,
        lists=("angiogram", "lower extremity", "contrast"),
        findings={"obstruction": 0.50, "subtraction": 0.30},
        aspect=(0.6, 0.8),
    ),
    "pet body": View(
        category=Category.DRPE,
        share=0.75,
        lists=("pet", "coronal"),
        findings={"metastases": 0.45, "lymphoma": 0.20, "tumour": 0.30},
        aspect=(0.42, 0.55),
    ),
    "pet brain": View(
        category=Category.DRPE,
        share=0.25,
        lists=("pet", "brain", "axial"),
        findings={"infarction": 0.50},
        aspect=(0.85, 1.0),
    ),
    "pet on ct": View(
        category=Category.DRCO,
        share=0.40,
        lists=("pet", "pet/ct", "ct", "chest", "axial"),
        findings={"tumour": 0.6},
    ),
    "ct beside mr": View(
        category=Category.DRCO,
        share=0.25,
        lists=("ct", "mri", "head", "brain", "axial"),
        findings={"infarction": 0.4, "hydrocephalus": 0.3},
        aspect=(1.7, 1.8),
        panels=("ct head", "mr brain"),
    ),
    "x-ray beside ct": View(
        category=Category.DRCO,
        share=0.20,
        lists=("plain x-ray", "ct", "chest", "lung"),
        findings={"effusion": 0.4, "nodule": 0.4},
        aspect=(2.1, 2.3),
        panels=("xr chest", "ct chest"),
    ),
    "ultrasound beside ct": View(
        category=Category.DRCO,
        share=0.15,
        lists=("ultrasound", "ct", "abdomen", "liver"),
        findings={"metastases": 0.5, "gallstones": 0.2},
        aspect=(2.3, 2.6),
        panels=("us gallbladder", "ct abdomen"),
    ),
}


KINDS: dict[str, FindingKind] = {
    "nodule": FindingKind(("nodule",), sided=True),
    "cyst": FindingKind(("cyst",), sided=True),
    "tumour": FindingKind(("neoplasms",), sided=True),
    "metastases": FindingKind(("metastasis", "neoplasms")),
    "lymphoma": FindingKind(("lymphoma", "neoplasms")),
    "meningioma": FindingKind(("meningioma", "neoplasms")),
    "glioma": FindingKind(("glioma", "neoplasms", "edema"), sided=True),
    "hemorrhage": FindingKind(("hemorrhage",), sided=True),
    "infarction": FindingKind(("infarction",), sided=True),
    "subdural": FindingKind(("subdural hematoma", "hemorrhage"), sided=True),
    "hydrocephalus": FindingKind(("hydrocephalus", "ventriculomegaly")),
    "sclerosis": FindingKind(("multiple sclerosis",)),
    "calcification": FindingKind(("calcification",)),
    "fracture": FindingKind(("fracture",)),
    "skull fracture": FindingKind(("fracture", "skull")),
    "effusion": FindingKind(("effusion",), sided=True),
    "pneumothorax": FindingKind(("pneumothorax",), sided=True),
    "consolidation": FindingKind(("consolidation", "pneumonia"), sided=True),
    "emphysema": FindingKind(("emphysema",)),
    "cardiomegaly": FindingKind(("cardiomegaly", "heart")),
    "pericardial": FindingKind(("pericardial effusion", "heart")),
    "aneurysm": FindingKind(("aneurysm",)),
    "aortic aneurysm": FindingKind(("aneurysm", "aorta")),
    "abdominal aneurysm": FindingKind(("abdominal aneurysm", "aneurysm", "aorta")),
    "stenosis": FindingKind(("stenosis",), unless="obstruction"),
    "obstruction": FindingKind(("obstruction",)),
    "malformation": FindingKind(("malformation",)),
    "ascites": FindingKind(("ascites",)),
    "hydronephrosis": FindingKind(("hydronephrosis", "kidney"), sided=True),
    "gallstones": FindingKind(("gallstones",)),
    "scoliosis": FindingKind(("scoliosis", "spine")),
    "disc": FindingKind(("disc displacement",)),
    "situs inversus": FindingKind(("situs inversus",)),
    "agenesis": FindingKind(("agenesis",)),
    "pacemaker": FindingKind(("pacemaker", "heart")),
    "catheter": FindingKind(("catheter",), harmless=True),
    "stent": FindingKind(("stent",), unless="obstruction"),
    "plate": FindingKind(("plate",)),
    "streaks": FindingKind(("streaks",), sided=True),
    "pellet": FindingKind(("pellet",)),
    "contrast": FindingKind(("contrast",), harmless=True, unless="t2"),
    "t2": FindingKind(("t2",), harmless=True),
    "doppler": FindingKind(("doppler", "vessels"), harmless=True),
    "subtraction": FindingKind(("subtraction",), harmless=True),
}

NEVER_IN_TRAINING = frozenset({"situs inversus", "agenesis", "pellet"})
"""Found only in patients of valid and test, as every real corpus has concepts to surprise with."""

_MODALITIES = {
    "ct": "CT",
    "mr": "MRI",
    "us": "ultrasound",
    "xr": "radiograph",
    "an": "angiogram",
    "pet": "PET",
}

_PLANES = ("axial", "coronal", "sagittal", "postero-anterior")

_SIZES = ("small", "moderate", "large")


def caption(scene: Scene) -> str:
    """What a radiologist would write below the image: all that is drawn, also what no list has.

    How large a finding is and where, and the age of the patient, are no concepts; and lists miss
    some concepts that are drawn (`patients.MISSED`), the caption does not.
    """
    view = VIEWS[scene.view]
    head, _, part = scene.view.partition(" ")
    if view.panels or part.startswith("on "):
        title = scene.view.replace("ct", "CT").replace("mr", "MRI").replace("pet", "PET")
    else:
        plane = next((word for word in view.lists if word in _PLANES), "")
        title = f"{plane} {_MODALITIES[head]} of the {part}".strip()
    age = int(20 + 60 * scene.anatomy.age)
    harmless = [f.kind for f in scene.findings.values() if KINDS[f.kind].harmless]
    others = [_told(f) for f in scene.findings.values() if not KINDS[f.kind].harmless]
    shown = f" ({', '.join(harmless)})" if harmless else ""
    found = f"showing {' and '.join(others)}" if others else "without a finding"
    return f"{title[0].upper()}{title[1:]} of a {age}-year-old patient{shown}, {found}."


def _told(finding: Finding) -> str:
    size = _SIZES[min(int(3 * finding.size), 2)]
    side = f" on the {'right' if finding.side < 0 else 'left'}" if KINDS[finding.kind].sided else ""
    return f"a {size} {finding.kind}{side}"
