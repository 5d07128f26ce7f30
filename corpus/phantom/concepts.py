"""The concepts of the phantom corpus.

Identifiers are those of the UMLS where one fits what is drawn. What has none there gets an id from
C9900001 on, whose name starts with "phantom": nobody can mistake it for a real one.
"""

from collections.abc import Iterable

CONCEPTS: dict[str, tuple[str, str]] = {
    # procedures
    "angiogram": ("C0002978", "angiogram"),
    "coronary angiography": ("C0085532", "Coronary angiography"),
    "emission tomography": ("C0040398", "Tomography, Emission-Computed"),
    "ct": ("C0040405", "X-Ray Computed Tomography"),
    "mri": ("C0024485", "Magnetic Resonance Imaging"),
    "pet": ("C0032743", "Positron-Emission Tomography"),
    "pet/ct": ("C1699633", "PET/CT scan"),
    "ultrasound": ("C0041618", "Ultrasonography"),
    "echocardiography": ("C0013516", "Echocardiography"),
    "x-ray procedure": ("C0043299", "X-ray procedure"),
    "plain x-ray": ("C1306645", "Plain x-ray"),
    "contrast": ("C0449900", "Contrast used"),
    # planes, directions and sides
    "axial": ("C0205131", "Axial"),
    "coronal": ("C0205123", "Coronal (qualifier value)"),
    "sagittal": ("C0205129", "Sagittal"),
    "postero-anterior": ("C1996865", "Postero-Anterior"),
    "right": ("C0205090", "Right"),
    "left": ("C0205091", "Left"),
    # parts of the body
    "head": ("C0018670", "Head"),
    "skull": ("C0037303", "Bone structure of cranium"),
    "brain": ("C0006104", "Brain"),
    "corpus callosum": ("C0010090", "Corpus Callosum"),
    "neck": ("C0027530", "Neck"),
    "thyroid": ("C0040132", "Thyroid Gland"),
    "chest": ("C0817096", "Chest"),
    "lung": ("C0024109", "Lung"),
    "heart": ("C0018787", "Heart"),
    "aorta": ("C0003483", "Aorta"),
    "coronary artery": ("C0205042", "Coronary artery"),
    "left anterior descending": (
        "C0226032",
        "Left anterior descending coronary artery structure",
    ),
    "right coronary artery": ("C1261316", "Right coronary artery structure"),
    "vessels": ("C0005847", "Blood Vessels"),
    "abdomen": ("C0000726", "Abdomen"),
    "liver": ("C0023884", "Liver"),
    "gallbladder": ("C0016976", "Gallbladder"),
    "kidney": ("C0022646", "Kidney"),
    "pelvis": ("C0030797", "Pelvis"),
    "bladder": ("C0005682", "Urinary Bladder"),
    "fetus": ("C0015965", "Fetus"),
    "pregnancy": ("C0032961", "Pregnancy"),
    "spine": ("C0037949", "Vertebral column"),
    "spinal cord": ("C0037925", "Spinal Cord"),
    "upper extremity": ("C1140618", "Upper Extremity"),
    "hand": ("C0018563", "Hand"),
    "lower extremity": ("C0023216", "Lower Extremity"),
    "knee": ("C0022742", "Knee"),
    # findings
    "normal": ("C0205307", "Normal"),
    "nodule": ("C0028259", "Nodule"),
    "cyst": ("C0010709", "Cyst"),
    "neoplasms": ("C0027651", "Neoplasms"),
    "metastasis": ("C0027627", "Neoplasm Metastasis"),
    "lymphoma": ("C0024299", "Lymphoma"),
    "meningioma": ("C0025286", "Meningioma"),
    "glioma": ("C0017638", "Glioma"),
    "edema": ("C0013604", "Edema"),
    "hemorrhage": ("C0019080", "Hemorrhage"),
    "infarction": ("C0021308", "Infarction"),
    "subdural hematoma": ("C0018946", "Hematoma, Subdural"),
    "hydrocephalus": ("C0020255", "Hydrocephalus"),
    "ventriculomegaly": ("C1531647", "Ventriculomegaly"),
    "multiple sclerosis": ("C0026769", "Multiple Sclerosis"),
    "calcification": ("C0006663", "Physiologic calcification"),
    "fracture": ("C0016658", "Fracture"),
    "effusion": ("C0032227", "Pleural effusion disorder"),
    "pneumothorax": ("C0032326", "Pneumothorax"),
    "consolidation": ("C0521530", "Lung consolidation"),
    "pneumonia": ("C0032285", "Pneumonia"),
    "emphysema": ("C0034067", "Pulmonary Emphysema"),
    "cardiomegaly": ("C0018800", "Cardiomegaly"),
    "pericardial effusion": ("C0031039", "Pericardial effusion"),
    "aneurysm": ("C0002940", "Aneurysm"),
    "abdominal aneurysm": ("C0162871", "Aortic Aneurysm, Abdominal"),
    "stenosis": ("C1261287", "Stenosis"),
    "obstruction": ("C0028778", "Obstruction"),
    "malformation": ("C0003857", "Congenital arteriovenous malformation"),
    "ascites": ("C0003962", "Ascites"),
    "hydronephrosis": ("C0020295", "Hydronephrosis"),
    "gallstones": ("C0008350", "Cholelithiasis"),
    "scoliosis": ("C0036439", "Scoliosis"),
    "disc displacement": ("C0021818", "Intervertebral Disc Displacement"),
    "situs inversus": ("C0037221", "Situs Inversus"),
    "agenesis": ("C0175754", "Agenesis of corpus callosum"),
    # devices
    "pacemaker": ("C0030163", "Cardiac pacemaker"),
    "catheter": ("C0085590", "Catheters"),
    "stent": ("C0038257", "Stent, device"),
    # what has no certain id in the UMLS
    "plate": ("C9900001", "phantom finding: metal plate with screws"),
    "streaks": ("C9900002", "phantom finding: metal implant"),
    "pellet": ("C9900003", "phantom finding: round metal pellet"),
    "doppler": ("C9900004", "phantom look: colour Doppler"),
    "t2": ("C9900005", "phantom look: T2 weighting"),
    "subtraction": ("C9900006", "phantom look: digital subtraction"),
}
"""The project's word for a concept: its identifier and its preferred name."""


def cuis(words: Iterable[str]) -> tuple[str, ...]:
    """Identifiers of these concepts, sorted.

    Raises:
        KeyError: a word is no concept of the phantom corpus.

    Example:
        >>> cuis(["nodule", "ct"])
        ('C0028259', 'C0040405')
    """
    return tuple(sorted(CONCEPTS[word][0] for word in words))


def names() -> dict[str, str]:
    """Preferred name of every concept, by identifier, sorted by identifier."""
    return dict(sorted(CONCEPTS.values()))
