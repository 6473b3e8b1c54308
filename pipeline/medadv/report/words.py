"""The report's sentences: methods, citations, what the corpus is for."""

from medadv.corpus.manifest import Manifest, StartFacts
from medadv.spec.attack import NAMED, AttackSettings
from medadv.spec.goal import in_words
from medadv.spec.modality import MODALITIES, amount

SOURCES = {
    "fgsm": "Goodfellow, Shlens, Szegedy: Explaining and Harnessing Adversarial Examples. ICLR 2015. arXiv:1412.6572.",
    "bim": "Kurakin, Goodfellow, Bengio: Adversarial Examples in the Physical World. ICLR Workshop 2017. arXiv:1607.02533.",
    "pgd": "Madry, Makelov, Schmidt, Tsipras, Vladu: Towards Deep Learning Models Resistant to Adversarial Attacks. ICLR 2018. "
    "arXiv:1706.06083.",
    "mifgsm": "Dong, Liao, Pang, Su, Zhu, Hu, Li: Boosting Adversarial Attacks with Momentum. CVPR 2018. arXiv:1710.06081.",
    "tifgsm": "Dong, Pang, Su, Zhu: Evading Defenses to Transferable Adversarial Examples by Translation-Invariant Attacks. CVPR 2019. "
    "arXiv:1904.02884.",
    "difgsm": "Xie, Zhang, Zhou, Bai, Wang, Ren, Yuille: Improving Transferability of Adversarial Examples with Input Diversity. "
    "CVPR 2019. arXiv:1803.06978.",
    "nifgsm": "Lin, Song, He, Wang, Hopcroft: Nesterov Accelerated Gradient and Scale Invariance for Adversarial Attacks. ICLR 2020. "
    "arXiv:1908.06281.",
    "segpgd": "Gu, Zhao, Tresp, Torr: SegPGD: An Effective and Efficient Adversarial Attack for Evaluating and Boosting Segmentation "
    "Robustness. ECCV 2022. arXiv:2207.12391.",
    "cospgd": "Agnihotri, Jung, Keuper: CosPGD: An Efficient White-Box Adversarial Attack for Pixel-Wise Prediction Tasks. ICML 2024. "
    "arXiv:2302.02213.",
    "apgd": "Croce, Hein: Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free Attacks. ICML 2020. "
    "arXiv:2003.01690.",
    "square": "Andriushchenko, Croce, Flammarion, Hein: Square Attack: A Query-efficient Black-box Adversarial Attack via Random Search. "
    "ECCV 2020. arXiv:1912.00049.",
    "sea": "Croce, Singh, Hein: Robust Semantic Segmentation: Strong Adversarial Attacks and Fast Training of Robust Models. 2023. "
    "arXiv:2306.12941.",
    "universal": "Shafahi, Najibi, Xu, Dickerson, Davis, Goldstein: Universal Adversarial Training. AAAI 2020. arXiv:1811.11304.",
    "warm": "Zheng, Zhang, Gu, Lee, Prakash: Efficient Adversarial Training with Transferable Adversarial Examples. CVPR 2020. "
    "arXiv:1912.11969.",
    "smia": "Qi, Gong, Song, Ma, Zheng: Stabilized Medical Image Attacks. ICLR 2021. arXiv:2103.05232.",
}
BUILT_ON = {
    "smia-listing": ("smia",),
    "smia-ti": ("smia", "tifgsm"),
    "smia-mi-ti": ("smia", "mifgsm", "tifgsm"),
    "sea": ("sea", "apgd"),
    "ensemble": ("apgd",),
}
"""Attacks that have no work of their own, or lean on another."""
SOFTWARE = (
    "Cardoso et al.: MONAI: An open-source framework for deep learning in healthcare. 2022. arXiv:2211.02701.",
    "Wang, Bovik, Sheikh, Simoncelli: Image Quality Assessment: From Error Visibility to Structural Similarity. "
    "IEEE Transactions on Image Processing 13 (2004). The SSIM here is MONAI's.",
)
RESPONSIBLE = (
    "This corpus was made to train models against perturbed input and to measure how much they give way. Its images are derived and "
    "synthetic: they show no patient's state, and must not reach a clinical system, a picture archive or an unwitting reader. Do not "
    "use the perturbations to mislead a deployed system, a reviewer or an insurer, and pass the corpus on only under the licence of its "
    "source images. A model that withstands these stored examples has not been shown to withstand an attack aimed at itself."
)


def citations(attacks: dict[str, AttackSettings]) -> list[str]:
    """Works that the methods paragraph leans on, the stabilized attack first where it was used."""
    names = {each.attack for settings in attacks.values() for each in (settings, *settings.each)}
    kinds = {source for name in names for source in BUILT_ON.get(name, (name,))}
    kinds |= {"warm" for settings in attacks.values() if settings.warm}
    return [SOURCES[kind] for kind in sorted(kinds, key=lambda kind: (kind != "smia", kind))] + list(SOFTWARE)


def methods(manifest: Manifest, unit: str) -> str:
    """One paragraph that a paper can take over."""
    data, execution = manifest.data, manifest.execution
    attacks = "; ".join(
        f"{name}: {in_short(settings, unit, data.task)}{began(manifest.starts.get(name))}" for name, settings in manifest.attacks.items()
    )
    truth = "the victim's own clean answer was taken as the truth" if data.label == "prediction" else "the given labels were the truth"
    split = f" of the split '{data.split}'" if data.split else ""
    victims = ", ".join(
        f"{name + ': ' if name else ''}{victim.network} ({victim.parameters:,} parameters, weights SHA-256 "
        f"{(victim.weights_sha256 or 'not stated')[:16]})"
        for name, victim in (manifest.victims or {"": manifest.victim}).items()
    )
    return (
        f"Adversarial examples were made from {manifest.samples} {MODALITIES[data.modality].title} samples{split} with medadv "
        f"{manifest.tool.version} against {victims}; "
        f"{truth}. Attacks: {attacks}. Perturbations are whole {unit}, bounded in L-infinity on the stored grid and clipped to the "
        f"range of the stored unit; success was scored on images read back. Seed {execution.seed}, {execution.precision} on "
        f"{execution.device}; determinism: {manifest.determinism.level}."
    )


def began(facts: StartFacts | None) -> str:
    """Of an attack that starts from another corpus."""
    if facts is None:
        return ""
    others = f" (the other {facts.cold} as without)" if facts.cold else ""
    return f", {facts.warm} samples started from {facts.attack} of the corpus with content root {facts.content_root}{others}"


def in_short(settings: AttackSettings, unit: str, task: str) -> str:
    """An attack and its settings, as a clause."""
    kind = settings.attack
    if settings.members:
        members = ", ".join(f"({number}) {in_short(member, unit, task)}" for number, member in enumerate(settings.members, 1))
        text = f"of each sample the worst answer among {members}" + (f", each started from {settings.follows}" if settings.follows else "")
        return text + (f", against {settings.victim}" if settings.victim else "")
    text = f"{kind}, epsilon {amount(settings.epsilon, unit)}, "
    text += f"{settings.steps} queries" if kind == "square" else f"step {settings.step:g}, {settings.steps} steps"
    if kind == "sea":
        text += " on each of four losses"
    if settings.fit is not None:
        text = (
            f"one perturbation for all samples, epsilon {amount(settings.epsilon, unit)}, fitted to the split '{settings.fit.split}' in "
            f"{settings.steps} passes with a step of {settings.step:g} a batch, losses bounded at {settings.loss_bound:g}"
        )
    if settings.random_start:
        text += ", random start" if settings.restarts == 1 else f", {settings.restarts} random starts"
    if settings.follows:
        text += f", started from {settings.follows}"
    if settings.keep == "best":
        text += ", best iterate kept"
    if settings.loss not in ("ce", NAMED[kind].get("loss")):
        text += f", loss {settings.loss}"
    if settings.target_classes:
        text += f", towards each of the {settings.target_classes} likeliest wrong classes"
    if settings.momentum:
        text += f", {'Nesterov ' if settings.nesterov else ''}momentum {settings.momentum:g}"
    if settings.diversity:
        text += f", input diversity with probability {settings.diversity:g}"
    if settings.gradient_sigma is not None:
        text += f", gradients smoothed with a Gaussian of {settings.gradient_sigma:g} voxels"
    if settings.weight:
        branches = "one branch" if settings.stop_gradient else "both branches"
        how = "after the authors' listing" if kind == "smia-listing" else f"gradient through {branches}"
        sigma = f"{settings.sigma:g} {settings.sigma_unit}"
        text += f", loss stabilization of weight {settings.weight:g} with a Gaussian of {sigma}, {how}"
    if settings.goal != "untruth":
        text += f", so that {in_words(settings.goal, task)}"
    if settings.victim:
        text += f", against {'the mean of the losses of all, answers of ' if settings.combine else ''}{settings.victim}"
    return text
