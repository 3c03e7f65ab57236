"""Figures as pages and pictures for people: the report of a bundle, two bundles compared, masks to correct."""
