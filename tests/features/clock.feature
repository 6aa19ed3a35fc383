# Source: transport requirements, section 3.3.
@several-nodes
Feature: Clocks that are wrong

  Scenario: an hour of wrong clock on all nodes costs a joiner no hour
    Given 3 nodes of a.example, whose clocks are set, and a room of alice's phone
    When all clocks are set an hour ahead
    And the phone commits
    And the tablet asks for the GroupInfo and does not enter
    And all clocks are right again
    Then the laptop joins by itself within 30 s

  Scenario: a node whose clock is 40 days ahead leads nothing
    Given 3 nodes of a.example, whose clocks are set, and a room of alice's phone
    When the clock of one node that leads is set 40 days ahead
    Then that node leads nothing within 30 s, and the phone commits on
    And that node says that it is not ready, because its clock is 40 days ahead

  Scenario: who commits too often is told how long to wait, also after an hour of wrong clock
    Given 3 nodes of a.example, whose clocks are set, and a room of alice's phone
    When the phone commits until it is told to wait
    And all clocks are set an hour ahead
    And all clocks are right again
    Then the phone commits until it is told to wait, and that Commit is accepted when it has waited so long
