"""Does relationship banking pay? Helper package of the crmresearch notebooks."""

__version__ = "0.1.0"
