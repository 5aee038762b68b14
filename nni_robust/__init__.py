"""Search for neural architectures that withstand adversarial attacks, as a plugin of NNI 3.0.

The stages of a search are the folders, in the order in which the data meet them::

    data        images: splits, loaders, seeds
    space       all networks: model spaces, genotypes, constraints, published architectures
    strategy    which network comes next: RobNet, RACL
    oneshot     the supernet that a strategy trains: sampled subnetworks, or weighed choices
    evaluator   what a network is worth: training, robust accuracy, AutoAttack, FSP distance
    record      one evaluated network, as a line of JSON
    report      drawings of cells, tables and plots

They rest on parts that know nothing of NNI: ``functional`` (the papers' mathematics), ``attack``
(FGSM, PGD, MI-FGSM, DeepFool, AutoAttack's parts, transfer, noise), ``op`` (candidate operations
and their Lipschitz constants) and ``model`` (reference networks). ``experiment`` joins them: search
files, the stages as trials, the strategy host that ``nnictl`` runs, and the command line's work.
"""

__version__ = "0.1.0"
