"""Croissant 1.1 metadata (https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html) with the responsible-AI and PROV-O terms.

No Croissant reader opens HDF5: the shards are files with hashes, and the records come from the receipts, which are JSON.
"""

import json

from medadv.common.record import Json, plain
from medadv.corpus.manifest import Manifest
from medadv.store.layout import ATTACKABLE, RESULTS

VERSION = "http://mlcommons.org/croissant/1.1"
RAI_VERSION = "http://mlcommons.org/croissant/RAI/1.0"
UNKNOWN_LICENCE = "not stated by the maker of this corpus; the licence of the source images applies"
CONTEXT: dict[str, Json] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
DESCRIBED = {
    "success": ("sc:Integer", "1 where the attack worked by the stored success rule, on the sample read back from the shard"),
    "linf": ("sc:Integer", "largest absolute perturbation, in stored units"),
    "l2": ("sc:Float", "Euclidean norm of the perturbation, in stored units"),
    "score_clean": ("sc:Float", "the victim's score on the clean sample: probability of the truth, Dice, or AP of the image"),
    "score_adversarial": ("sc:Float", "the victim's score on the adversarial sample"),
    ATTACKABLE: ("sc:Integer", "1 where the clean sample was not at the attack's goal, so that success counts"),
}


def croissant(manifest: Manifest) -> bytes:
    """The content of croissant.json for a manifest (which need not list it yet).

    `verify` makes it again: where its words change, those of before are to be kept for the corpora that have them.
    """
    data, victims = manifest.data, list(manifest.victims.values()) or [manifest.victim]
    unit = "Hounsfield units" if data.unit == "hu" else "8-bit grey levels"
    attacks = ", ".join(f"{name} (epsilon {s.epsilon:g} {unit})" for name, s in manifest.attacks.items())
    document = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [VERSION, RAI_VERSION],
        "name": manifest.name,
        "description": (
            f"{manifest.samples} clean {data.modality} images for {data.task}, each with adversarial perturbations by "
            f"{attacks} against {', '.join(victim.network for victim in victims)}. Images and integer perturbations are stored in {unit}; "
            "adversarial = image + perturbation."
        ),
        "version": f"1.{len(manifest.generations) - 1}.0",
        "license": data.licence or UNKNOWN_LICENCE,
        "url": f"urn:medadv:{manifest.content_root}",
        "creator": {"@type": "sc:Organization", "name": "maker of the corpus (not stated)"},
        "datePublished": manifest.run.finished[:10],
        "keywords": ["adversarial examples", "robustness", "medical imaging", data.modality, data.task],
        "isLiveDataset": False,
        "citeAs": (
            "Qi, G., Gong, L., Song, Y., Ma, K., Zheng, Y.: Stabilized Medical Image Attacks. ICLR 2021. "
            f"Corpus content root {manifest.content_root}."
        ),
        **_responsible_ai(manifest),
        **_provenance(manifest),
        "distribution": _distribution(manifest),
        "recordSet": [_records(manifest)],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _distribution(manifest: Manifest) -> list[dict[str, Json]]:
    shards: list[dict[str, Json]] = [
        {
            "@type": "cr:FileObject",
            "@id": shard.path,
            "name": shard.path.removeprefix("shards/"),
            "contentUrl": shard.path,
            "contentSize": f"{shard.bytes} B",
            "encodingFormat": "application/x-hdf5",
            "sha256": shard.sha256,
        }
        for shard in manifest.shards
    ]
    receipts: dict[str, Json] = {
        "@type": "cr:FileSet",
        "@id": "receipts",
        "name": "receipts",
        "description": "One JSON file a shard: its samples' records, batches and hashes.",
        "encodingFormat": "application/json",
        "includes": "shards/*.json",
    }
    return [*shards, receipts]


def _records(manifest: Manifest) -> dict[str, Json]:
    fields = [_field("id", "sc:Text", "identifier of the sample: hash of its input file, and a slice number", "$.records[*].id")]
    for attack, settings in manifest.attacks.items():
        for result in RESULTS if settings.goal == "untruth" else (*RESULTS, ATTACKABLE):
            kind, description = DESCRIBED[result]
            path = f"$.records[*].attacks.'{attack}'.{result}"
            fields.append(_field(f"{attack}.{result}", kind, f"{attack}: {description}", path))
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "description": "One record a sample, with what each attack did to it.",
        "key": {"@id": "samples/id"},
        "field": fields,
    }


def _field(name: str, kind: str, description: str, path: str) -> dict[str, Json]:
    return {
        "@type": "cr:Field",
        "@id": f"samples/{name}",
        "name": name,
        "description": description,
        "dataType": kind,
        "source": {"fileSet": {"@id": "receipts"}, "extract": {"jsonPath": path}},
    }


def _responsible_ai(manifest: Manifest) -> dict[str, Json]:
    data, victims = manifest.data, list(manifest.victims.values()) or [manifest.victim]
    named = ", ".join(f"{victim.network} with weights {victim.weights_sha256}" for victim in victims)
    truth = "given with the source images" if data.label == "given" else "the victim's own predictions on the clean images"
    return {
        "rai:dataCollection": (
            f"Derived by computation from clean {data.modality} images"
            + (f" of split {data.split!r}" if data.split else "")
            + f"; {manifest.quarantined} inputs were quarantined with reason codes in quarantine.jsonl."
        ),
        "rai:dataCollectionType": ["Secondary Data Analysis", "Software Collection"],
        "rai:dataCollectionMissingData": "Inputs that could not be used stand in quarantine.jsonl; nothing was imputed.",
        "rai:dataPreprocessingProtocol": [json.dumps(plain(manifest.preprocess), sort_keys=True)],
        "rai:dataManipulationProtocol": (
            "Integer perturbations within an L-infinity bound were found by sign-gradient attacks with the parameters in the manifest."
        ),
        "rai:dataAnnotationProtocol": [f"Labels are {truth}; mapped by {json.dumps(data.label_map)}."],
        "rai:machineAnnotationTools": [f"{manifest.tool.name} {manifest.tool.version}"],
        "rai:dataUseCases": ["adversarial training", "robustness evaluation", "not for diagnosis or any clinical use"],
        "rai:dataLimitations": [
            f"The perturbations were made for {'one victim' if len(victims) == 1 else f'{len(victims)} victims'}, {named}; "
            "other models may be less or more affected.",
            f"Reproducibility: {manifest.determinism.level} on {manifest.determinism.holds_for}.",
        ],
        "rai:dataBiases": ["Those of the source images and of the victim's training data; selection by the split and by the quarantine."],
        "rai:dataSocialImpact": (
            "Adversarial images may mislead diagnostic software: exported files are marked as derived and synthetic, and must not be mixed "
            "into clinical archives."
        ),
        "rai:personalSensitiveInformation": [
            "Clean medical images are part of the corpus. Patient, study and session ids are keyed hashes; names, dates, UIDs and source "
            "paths are not published; geometry is an allow-list."
        ],
        "rai:dataReleaseMaintenancePlan": "Samples can be added or withdrawn as further generations; the manifest lists them in order.",
        "rai:hasSyntheticData": True,
    }


def _provenance(manifest: Manifest) -> dict[str, Json]:
    tool, run = manifest.tool, manifest.run
    weights: list[Json] = [
        {"@id": f"urn:sha256:{victim.weights_sha256}", "@type": "prov:Entity", "prov:label": f"weights of {victim.network}"}
        for victim in manifest.victims.values() or [manifest.victim]
    ]
    return {
        "prov:wasDerivedFrom": [
            {
                "@id": f"urn:medadv:plan:{generation.plan}",
                "@type": "prov:Entity",
                "prov:label": f"{generation.samples} source images, identified by content hash in the receipts",
            }
            for generation in manifest.generations
        ],
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "prov:label": run.command,
            "prov:startedAtTime": run.started,
            "prov:endedAtTime": run.finished,
            "prov:used": weights,
            "prov:wasAssociatedWith": {
                "@type": "prov:SoftwareAgent",
                "prov:label": f"{tool.name} {tool.version}" + (f" ({tool.commit})" if tool.commit else ""),
            },
        },
    }
